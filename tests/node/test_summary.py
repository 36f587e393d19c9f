"""The one line of everything."""

from __future__ import annotations

from dataclasses import replace

from gpuwarden.config import Config
from gpuwarden.model.action import Kind, Withheld
from gpuwarden.model.decision import Decision
from gpuwarden.model.device import Sight
from gpuwarden.model.ids import IncidentId
from gpuwarden.model.snapshot import Gap, GapKind
from gpuwarden.node.summary import no_gpus, summary
from tests.policy.builders import gpu, memory, snap, tenant

QUIET = Decision(memory=memory())


def held(kind: Kind, budget: str) -> Withheld:
    return Withheld(
        kind=kind, incident=IncidentId("i"), tenant=None, device=None, budget=budget, detail=""
    )


def test_all_is_well() -> None:
    look = snap(gpus=(gpu(), gpu(1, sight=Sight.BLIND)), tenants=(tenant(),))
    said = summary(Config(), look, QUIET)
    assert said == "observe: 2 GPUs (1 not seen), 1 tenant, 0 findings"


def test_what_is_withheld_is_said_with_what_holds_it_back() -> None:
    many = (held(Kind.TERM, "mode"), held(Kind.TERM, "mode"), held(Kind.CORDON, "fleet"))
    said = summary(Config(), snap(gpus=(gpu(),)), QUIET, many)
    assert said.endswith("; withheld: 2 term (mode), cordon (fleet)")
    more = (*many, held(Kind.KILL, "cooldown"), held(Kind.FREEZE, "journal"))
    assert summary(Config(), snap(), QUIET, more).endswith(" and 1 more")


def test_no_gpus_and_why() -> None:
    gap = Gap(source="nvml", subject="driver", kind=GapKind.UNAVAILABLE, detail="no library")
    without = replace(snap(), gaps=(gap,))
    assert no_gpus(without) == "no library"
    assert summary(Config(), without, QUIET).startswith("observe: no GPUs (no library), 0 tenants")
    assert no_gpus(snap()) == ""
    assert no_gpus(snap(gpus=(gpu(),))) is None
