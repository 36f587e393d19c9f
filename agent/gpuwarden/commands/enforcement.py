"""``gpuwarden enable-enforcement``: gives the agent's unit the rights that acting needs, and says that it may act."""

import difflib
import hashlib
import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import click

from gpuwarden.adapters.tool import Tool
from gpuwarden.clock import SystemClock
from gpuwarden.commands.checks import Result, Roots, ask_docker, check_device_loss
from gpuwarden.commands.checks_host import check_scopes
from gpuwarden.commands.output import Out, Part, Styled, answers
from gpuwarden.config import Config
from gpuwarden.config_files import load
from gpuwarden.errors import ConfigError, Refused, Unavailable

UNIT = "gpuwarden-agent.service"
DROP_IN = Path(f"etc/systemd/system/{UNIT}.d/50-enforcement.conf")
SETTING = Path("etc/gpuwarden/conf.d/50-enforce.toml")
_MARK = "# Written by gpuwarden enable-enforcement, which --undo takes back while it is unchanged: sha256 "
_MAX_BYTES = 64 * 1024
RELOAD_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One file that is ours while it is as we wrote it."""

    path: Path
    what: str
    text: str

    @property
    def there(self) -> str | None:
        """What it says now; None: it is not there."""
        try:
            with self.path.open(encoding="utf-8", errors="replace") as file:
                return file.read(_MAX_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Unavailable(f"{self.path}: {error.strerror}") from error

    def difference(self, new: str) -> list[str]:
        old = (self.there or "").splitlines(keepends=True)
        lines = difflib.unified_diff(
            old,
            new.splitlines(keepends=True),
            str(self.path) if old else "/dev/null",
            str(self.path) if new else "/dev/null",
        )
        return [line.rstrip("\n") for line in lines]


def sealed(text: str) -> str:
    """A text below a line that tells whether somebody has changed it."""
    return f"{_MARK}{hashlib.sha256(text.encode()).hexdigest()}\n{text}"


def is_unchanged(said: str) -> bool:
    """Whether it is as this program, in any of its versions, has written it."""
    first, _, rest = said.partition("\n")
    return first == f"{_MARK}{hashlib.sha256(rest.encode()).hexdigest()}"


def shipped(name: str) -> str:
    """A file of the package."""
    return (resources.files("gpuwarden") / "data" / name).read_text(encoding="utf-8")


def pieces(root: Path) -> tuple[Piece, Piece]:
    """The drop-in of the unit, and the setting."""
    return (
        Piece(
            path=root / DROP_IN,
            what=f"what {UNIT} may do",
            text=sealed(shipped(DROP_IN.name)),
        ),
        Piece(path=root / SETTING, what="what the agent does", text=sealed(shipped(SETTING.name))),
    )


@click.command("enable-enforcement")
@click.option(
    "--undo", is_flag=True, help="Take back what was installed; refused where it was edited."
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default="/",
    help="Another root folder, such as that of an image; its systemd is told nothing.",
)
@answers
def enable_enforcement(out: Out, undo: bool, yes: bool, root: Path) -> None:
    """Let the agent act: show the drop-in and the setting it takes, ask, install them.

    Nothing acts before the agent is started again, which is left to you.
    """
    if os.geteuid() != 0 and root == Path("/"):
        raise Refused("only root may: sudo gpuwarden enable-enforcement")
    both = pieces(root)
    _refuse_edited(both)
    if not undo:
        _refuse_bad_configuration(root)
    changed = [
        piece
        for piece in (reversed(both) if undo else both)
        if _change(piece, out, is_undo=undo, is_asked=not yes)
    ]
    advice = _follow_up(root, both, changed)
    if out.is_json:
        out.data({"changed": [piece.path for piece in changed], "next": advice})
    elif not changed:
        out.show(["nothing was changed", *advice])
    else:
        out.show([Styled(line, "bold") for line in advice])


def _refuse_edited(both: tuple[Piece, ...]) -> None:
    for piece in both:
        said = piece.there
        if said is not None and not is_unchanged(said):
            raise Refused(
                f"{piece.path} was written or changed by somebody else, and is left alone: move your lines to a "
                "file of another name beside it, remove this one, and try again"
            )


def _refuse_bad_configuration(root: Path) -> None:
    """Who may act on a configuration that is not understood?"""
    main = root / "etc/gpuwarden/agent.toml"
    is_here = root == Path("/")
    if not is_here and not main.exists():
        return  # an image without one has the defaults
    try:
        load(None if is_here else main, environ=os.environ if is_here else {})
    except ConfigError as error:
        more = f" (and {len(error.faults) - 1} more)" if len(error.faults) > 1 else ""
        raise Refused(
            f"the configuration is wrong, mend it first: {error.faults[0]}{more}"
        ) from error


def _change(piece: Piece, out: Out, *, is_undo: bool, is_asked: bool) -> bool:
    """Show what would be different, ask, do it; whether it was done."""
    new = "" if is_undo else piece.text
    difference = piece.difference(new)
    if not difference:
        return False
    if not out.is_json:
        verb = "takes back" if is_undo else "changes"
        out.show([f"This {verb} {piece.what}:", *_coloured(difference), ""])
    if is_asked and not click.confirm(f"{'Remove' if is_undo else 'Install'} it?", err=True):
        return False
    try:
        if is_undo:
            piece.path.unlink()
            if piece.path.parent.name.endswith(".service.d") and not any(
                piece.path.parent.iterdir()
            ):
                piece.path.parent.rmdir()
        else:
            _write(piece)
    except OSError as error:
        raise Unavailable(f"{error.filename}: {error.strerror}") from error
    return True


def _write(piece: Piece) -> None:
    """Whole, or not at all."""
    piece.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    fresh = piece.path.with_name(f".{piece.path.name}.new")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    with open(fd, "w", encoding="utf-8") as file:
        os.fchmod(fd, 0o644)
        file.write(piece.text)
        file.flush()
        os.fsync(fd)
    fresh.replace(piece.path)


def _coloured(lines: list[str]) -> list[Part]:
    styles = {"+": "green", "-": "red", "@": "cyan"}
    return [Styled(f"  {line}", styles.get(line[:1], "")) for line in lines]


def _follow_up(root: Path, both: tuple[Piece, Piece], changed: list[Piece]) -> list[str]:
    """What is left to do, and what of it was done here: systemd reads its files again, where that harms nobody."""
    if not changed:
        return []
    if root != Path("/"):
        return [f"then, in {root}: systemctl restart {UNIT}"]
    config = _config()
    advice = [
        f"{piece.what}: {'now' if piece in changed else 'still'} as {piece.path}"
        for piece in both
        if piece.there is not None
    ]
    wanted = "enforce" if both[1].there is not None else "observe"
    if config is not None and config.agent.mode != wanted:
        advice.append(
            f"but another file says mode = {config.agent.mode}: gpuwarden config show --origin"
        )
    if both[0] in changed and Path("/run/systemd/system").is_dir():
        advice.append(_daemon_reload(config or Config()))
    return [*advice, f"then: systemctl restart {UNIT}"]


def _config() -> Config | None:
    try:
        return load(None, environ=os.environ).config
    except ConfigError:
        return None


def _daemon_reload(config: Config) -> str:
    """Not where it takes the GPUs from running containers (NVIDIA/nvidia-container-toolkit issue 48)."""
    docker = ask_docker(config.docker.host.removeprefix("unix://"))
    for exposed in (check_device_loss(docker, Roots()), check_scopes(Roots())):
        if exposed.result is Result.WARNING:
            return (
                "systemd was NOT told to read its files again, for on this host that takes the GPUs from running "
                f"containers. First: {exposed.fix}. Then: systemctl daemon-reload"
            )
    tool = Tool(name="systemctl", clock=SystemClock(), timeout_s=RELOAD_S)
    answer = tool.run("daemon-reload")
    if answer.status != 0:
        return f"systemctl daemon-reload failed: {answer.why}"
    return "systemd has read its files again"
