"""Names that are no text: a cgroup, and with it a tenant, may be called by any bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gpuwarden.adapters.cgroup_owner import owner_of_bytes
from gpuwarden.adapters.tenancy import tenant_of_owner
from gpuwarden.model.ids import CgroupId
from gpuwarden.model.tenant import Tenant
from gpuwarden.node.journal import FileJournal, Record, decode, encode, read
from gpuwarden.node.recover import recover
from gpuwarden.node.replay import Replay, differences
from gpuwarden.policy.decide import decide
from tests.policy.builders import config, gpu, memory, snap, tenant, use

CFG = config("observe")


@pytest.fixture
def nameless() -> Tenant:
    r"""What any user with a group of his own can call himself: mkdir lxc.payload.$'\xff'."""
    owner = owner_of_bytes(b"0::/user.slice/user-1000.slice/user@1000.service/lxc.payload.\xff\n")
    name = tenant_of_owner(owner)
    assert name is not None
    assert owner.cgroup_path is not None
    assert name == r"lxc:\xff@uid1000"
    return tenant("nameless", id=name, cgroup=CgroupId(path=owner.cgroup_path, inode=7))


def test_a_name_that_is_no_text_comes_back_as_it_was(nameless: Tenant) -> None:
    record = Record(kind="tick", snapshot=snap(tenants=[nameless]))
    assert decode(encode(record)) == record


def test_whoever_bears_it_is_judged_journalled_and_replayed(
    tmp_path: Path, nameless: Tenant
) -> None:
    look = snap(
        gpus=[gpu()],
        tenants=[nameless],
        uses=[replace(use(), tenant=nameless.id, used_bytes=2**40)],
    )
    decision = decide(CFG, memory(), look)
    assert decision.incidents
    journal = FileJournal(tmp_path, 2**20)
    journal.begin(CFG.model_dump_json(by_alias=True), memory())
    journal.intend(memory(), look, decision)
    journal.remember(decision.memory)
    journal.close()
    assert recover(read(tmp_path)).memory == decision.memory
    met = Replay()
    assert list(differences(tmp_path, met)) == []
    assert (met.ticks, met.reading and met.reading.gaps) == (1, 0)
