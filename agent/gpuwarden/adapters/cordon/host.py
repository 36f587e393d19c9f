"""Every backend that is told of a cordon, asked one after the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gpuwarden.errors import GpuwardenError, Unavailable
from gpuwarden.model.repair import Subject


class Backend(Protocol):
    """One place that puts jobs on this node. The same told twice is the same; what others have cordoned
    stays theirs. ``Unavailable``: it could not be told, and has to be told again."""

    @property
    def name(self) -> str: ...

    def cordon(self, subject: Subject, incident: str, reason: str) -> str:
        """What it did, in a word or two."""
        ...

    def uncordon(self, subject: Subject, incident: str, still: Sequence[str]) -> str: ...


@dataclass(frozen=True, slots=True)
class HostCordons:
    """Implements ``ports.Cordons``. Without a backend nobody has to be told."""

    backends: Sequence[Backend] = ()

    def cordon(self, subject: Subject, incident: str, reason: str) -> Mapping[str, str]:
        """Tell all; ``Unavailable`` names those that could not be told, after the others were."""
        return self._all(lambda backend: backend.cordon(subject, incident, reason))

    def uncordon(self, subject: Subject, incident: str, still: Sequence[str]) -> Mapping[str, str]:
        return self._all(lambda backend: backend.uncordon(subject, incident, still))

    def _all(self, tell: "_Tell") -> Mapping[str, str]:
        said, failed = {}, []
        for backend in self.backends:
            try:
                said[backend.name] = tell(backend)
            except GpuwardenError as error:
                failed.append(f"{backend.name}: {error}")
        if failed:
            raise Unavailable("; ".join(failed))
        return said


class _Tell(Protocol):
    def __call__(self, backend: Backend) -> str: ...
