"""The backends that the settings ask for; what is not asked for is not imported."""

from collections.abc import Mapping

from gpuwarden.adapters.cordon.host import Backend, HostCordons
from gpuwarden.clock import Clock
from gpuwarden.config_cordon import CordonConfig


def make_cordons(cfg: CordonConfig, clock: Clock, environ: Mapping[str, str]) -> HostCordons:
    """Everybody who is told of a cordon on this host, in the order in which they are told."""
    backends: list[Backend] = []
    if cfg.slurm is not None:
        from gpuwarden.adapters.cordon.slurm import SlurmBackend

        backends.append(SlurmBackend.of(cfg.slurm, clock, environ))
    if cfg.kubernetes is not None:
        from gpuwarden.adapters.cordon.kubernetes import KubernetesBackend

        backends.append(KubernetesBackend.of(cfg.kubernetes, clock, environ))
    if cfg.exec is not None:
        from gpuwarden.adapters.cordon.program import ProgramBackend

        backends.append(ProgramBackend(cfg.exec, clock))
    return HostCordons(tuple(backends))
