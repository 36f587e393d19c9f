"""Rule zombie: bytes of the dead, by device and pid."""

from __future__ import annotations

from gpuwarden.model.finding import Scope
from gpuwarden.model.health import Remains, Surroundings
from gpuwarden.policy.health import zombie
from tests.policy.builders import MIB, NOW, device_id, gpu, tenant_id
from tests.policy.health.ward import TICK_S, Ward, ask_host

LEFT = Remains(
    device=device_id(1),
    raw_pid=4711,
    used_bytes=512 * MIB,
    is_zombie=True,
    comm="python3",
    parent=1,
    tenant=tenant_id("train"),
)


def test_a_zombie_with_bytes_names_who_has_to_reap_it() -> None:
    (claim,) = ask_host(zombie.JUDGES, Surroundings(at=NOW, remains=(LEFT,)))
    assert (claim.device, claim.tenant, claim.scope) == (device_id(1), LEFT.tenant, Scope.GPU)
    assert claim.summary == "keeps 512.0 MiB for process 4711 (python3), which is a zombie"
    assert ("has to be reaped by", "1") in claim.evidence


def test_one_that_is_gone() -> None:
    gone = Remains(device=device_id(0), raw_pid=7, used_bytes=MIB, is_zombie=False)
    (claim,) = ask_host(zombie.JUDGES, Surroundings(at=NOW, remains=(gone,)))
    assert claim.summary == "keeps 1.0 MiB for process 7, which is gone"


def test_nothing_left_or_nothing_known() -> None:
    assert ask_host(zombie.JUDGES, Surroundings(at=NOW)) == []
    assert ask_host(zombie.JUDGES, None) == []


def test_it_enters_and_leaves_slowly_as_a_fault_of_its_device() -> None:
    ward = Ward()

    def see(after_s: float, *remains: Remains) -> list[str]:
        at = NOW + after_s
        around = Surroundings(at=NOW + after_s // 15 * 15, remains=remains)
        found = ward.see(at, gpu(0, at=at), gpu(1, at=at), around=around)
        assert all(f.device == device_id(1) for f in found.values())
        assert all(f.summary.startswith("GPU 1 keeps") for f in found.values())
        return list(found)

    key = f"memory-of-the-dead {device_id(1)} 4711"
    assert [see(s, LEFT) for s in (0, 15, 30 - TICK_S, 30)] == [[]] * 3 + [[key]]
    assert [see(s) for s in (45, 60 - TICK_S, 60)] == [[key], [key], []]
