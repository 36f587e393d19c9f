"""What keeps things on disk beside the journal. A part of wiring."""

from gpuwarden.adapters.docker_client import DockerDoor
from gpuwarden.adapters.evidence import EvidenceRoom
from gpuwarden.adapters.version_book import VersionBook
from gpuwarden.adapters.version_keeper import VersionKeeper
from gpuwarden.clock import Clock
from gpuwarden.config import Config


def make_versions(cfg: Config, clock: Clock) -> VersionKeeper | None:
    """Nothing where versions are not to be recorded."""
    if not cfg.rollback.record:
        return None
    return VersionKeeper(
        VersionBook(cfg.agent.state_dir / "versions", cfg.rollback.history),
        DockerDoor(cfg.docker.host, cfg.docker.timeout_s, clock),
        clock,
        cfg.rollback,
        cfg.service,
    )


def evidence_room(cfg: Config, clock: Clock) -> EvidenceRoom:
    return EvidenceRoom(
        folder=cfg.agent.state_dir / "evidence",
        kernel_log=cfg.kmsg.path,
        nvidia_smi=cfg.repair.nvidia_smi,
        bug_report=cfg.repair.bug_report,
        report_s=cfg.repair.evidence_s,
        clock=clock,
    )
