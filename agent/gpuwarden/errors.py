"""The four errors of the program; each says what to do next.

Adapters translate whatever their library raises into one of these; nothing else crosses a port.
"""


class GpuwardenError(Exception):
    """Root of every error the program raises on purpose."""


class Unavailable(GpuwardenError):
    """The thing did not answer this time: try again on a later tick.

    ``retry_after_s``: how much later, where it said so itself.
    """

    def __init__(self, *said: object, retry_after_s: float | None = None) -> None:
        super().__init__(*said)
        self.retry_after_s = retry_after_s


class Unsupported(GpuwardenError):
    """This host can never do that: stop asking and say so once."""


class Refused(GpuwardenError):
    """Safety said no: the target is not what was decided about (pid reused, cgroup replaced)."""


class Gone(Refused):
    """What was decided about is not there at all any more; nothing else stands in its place."""


class ConfigError(GpuwardenError):
    """The configuration is wrong; ``faults`` lists every mistake, each with its path and origin."""

    def __init__(self, faults: tuple[str, ...]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults
