"""What repairs a simulated node, and who is told of its cordons."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gpuwarden.errors import Refused, Unavailable, Unsupported
from gpuwarden.model.command import Answer, Command, Verb
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.repair import Subject
from gpuwarden.sim.node.cards import Card, Cards
from gpuwarden.sim.node.ledger import Ledger
from gpuwarden.sim.node.probe import SimProbe


@dataclass(slots=True)
class SimRemedies:
    """Implements ``ports.Remedies``. What a step heals is the card's own business (``Card.heals_by``)."""

    cards: Cards
    probe: SimProbe
    ledger: Ledger
    reboots: Callable[[], bool]
    """Has the host go down; False: it is on its way already."""
    broken: set[str] = field(default_factory=set)
    """Steps that fail."""
    absent: set[str] = field(default_factory=set)
    """Steps that are not possible here."""
    kept: list[str] = field(default_factory=list)
    """Incidents whose evidence was kept, oldest first."""
    is_open: bool = False
    """Somebody whom no list shows has every device open."""
    marks: dict[str, bool] = field(default_factory=dict)
    """Step -> whether it is marked as done; on disk."""

    def restart_services(self) -> str:
        self._try("restart-services")
        self._heal("restart-services", list(self.cards.cards.values()))
        return "nvidia-fabricmanager.service"

    def reset_gpu(self, subject: Subject) -> str:
        card = self.cards.cards[subject.device] if subject.device is not None else None
        if card is None:
            raise Refused("no device is named")
        if self.is_open or self.cards.holders(card.id) or not self.probe.is_paused:
            raise Refused("the device is in use")
        self._try("reset-gpu", card.id)
        self._heal("reset-gpu", [card])
        return ""

    def reload_driver(self) -> str:
        every = list(self.cards.cards.values())
        is_used = self.is_open or any(self.cards.holders(c.id) for c in every)
        if is_used or not self.probe.is_paused:
            raise Refused("a device is in use")
        self._try("reload-driver")
        self._heal("reload-driver", every)
        self.probe.epoch += 1
        return ""

    def reboot(self, reason: str) -> str:
        if "reboot" in self.absent | self.broken or self.reboots():
            self._try("reboot")
        return "in 60 s"

    def keep_evidence(self, subject: Subject, incident: str, why: str) -> str:
        if "keep-evidence" in self.broken:
            raise Unavailable("the disk is full")
        self.kept.append(incident)
        return f"evidence/{incident}"

    def mark(self, action: str, *, is_done: bool) -> None:
        self.marks.clear()  # one file, replaced as a whole
        self.marks[action] = is_done

    def is_done(self, action: str) -> bool | None:
        return (self.marks[action] or None) if action in self.marks else False

    def _try(self, step: str, device: DeviceId | None = None) -> None:
        self.ledger.note(step, device=device)
        if step in self.absent:
            raise Unsupported(f"{step} is not possible here")
        if step in self.broken:
            raise Unavailable(f"{step} ended with status 1")

    def _heal(self, step: str, cards: Sequence[Card]) -> None:
        for card in cards:
            card.heal(step)


@dataclass(slots=True)
class SimCordons:
    """Implements ``ports.Cordons``: one scheduler that holds the node while any cordon of ours stands."""

    ledger: Ledger
    is_down: bool = False
    held: dict[str, str] = field(default_factory=dict)
    """Incident -> reason of the cordons it knows of."""
    foreign: str = ""
    """Somebody else's reason for which the node is drained: never touched."""

    def cordon(self, subject: Subject, incident: str, reason: str) -> Mapping[str, str]:
        if self.is_down:
            raise Unavailable("slurm: no answer within 10 s")
        if incident not in self.held:
            self.ledger.note("drain", device=subject.device, text=reason)
        self.held[incident] = reason
        return {"slurm": "foreign" if self.foreign else "drained"}

    def uncordon(self, subject: Subject, incident: str, still: Sequence[str]) -> Mapping[str, str]:
        if self.is_down:
            raise Unavailable("slurm: no answer within 10 s")
        was_held = self.held.pop(incident, None) is not None
        if self.held or still:
            return {"slurm": "others stand"}
        if was_held and not self.foreign:
            self.ledger.note("resume", device=subject.device, text=incident)
        return {"slurm": "resumed"}

    @property
    def is_drained(self) -> bool:
        """Whether jobs are kept off the node."""
        return bool(self.held or self.foreign)


@dataclass(slots=True)
class SimCommands:
    """Implements ``ports.Commands``: an operator at the keyboard."""

    answers: list[Answer] = field(default_factory=list)
    _asked: list[Command] = field(default_factory=list)
    _count: int = 0

    def say(self, verb: Verb, subject: str, reason: str = "maintenance") -> None:
        """Ask for something; the next tick hears it."""
        self._count += 1
        self._asked.append(
            Command(id=self._count, verb=verb, subject=subject, reason=reason, uid=0, name="root")
        )

    def drain(self) -> Sequence[Command]:
        asked, self._asked = self._asked, []
        return asked

    def answer(self, answers: Sequence[Answer]) -> None:
        self.answers += answers
