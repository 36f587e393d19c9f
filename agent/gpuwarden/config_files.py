"""Settings from files and environment: ``agent.toml``, ``conf.d/*.toml``, ``GPUWARDEN_SECTION__KEY``.

Later wins: defaults, the main file, drop-ins in lexical order, the fleet's policy, the environment, flags. Tables
merge, entries of ``[[tenant]]`` and ``[[service]]`` add up, any other list replaces the one before it. Every
mistake of every file is reported at once, each with its file, line and path.
"""

import os
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from gpuwarden.config import Config
from gpuwarden.config_faults import fault_texts, shown
from gpuwarden.config_policy import checked, only_observing
from gpuwarden.errors import ConfigError
from gpuwarden.model.policy import PolicyLayer
from gpuwarden.toml_places import Path as Place
from gpuwarden.toml_places import places

DEFAULT_PATH = Path("/etc/gpuwarden/agent.toml")
FILE_MAX_BYTES = 2**20
DROP_INS_MAX = 256
ENV_PREFIX = "GPUWARDEN_"
ADDING_ARRAYS = frozenset({"tenant", "service"})


Kind = TypeVar("Kind", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded(Generic[Kind]):
    """A valid configuration and where each of its values was said.

    ``origins`` maps a path (``("quota", "soft_hold_s")``) to ``agent.toml:12``, ``env NAME`` or a
    flag; a value that is not in it is a default. ``files`` were read, in order.
    """

    config: Kind
    origins: Mapping[Place, str]
    files: tuple[Path, ...]


@dataclass(slots=True)
class _Gathered:
    """What was read so far."""

    tree: dict[str, Any] = field(default_factory=dict)
    origins: dict[Place, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)


def load(
    path: Path | None = None,
    *,
    environ: Mapping[str, str],
    flags: Mapping[str, object] | None = None,
    policy: PolicyLayer | None = None,
) -> Loaded[Config]:
    """The configuration of this host; raises ``ConfigError`` listing every mistake.

    ``path`` None means the usual place, where a missing main file means defaults; a file named
    outright must exist. Drop-ins lie in ``conf.d`` beside the main file. ``flags`` maps a dotted
    path (``agent.mode``) to a value and wins over everything; its origin is ``flag``. ``policy`` is the
    fleet's: it wins over the files, and its tenants are looked at before theirs.
    """
    main = DEFAULT_PATH if path is None else path
    return load_as(Config, main, "conf.d", path is not None, environ, flags, policy)


def load_as(
    model: type[Kind],
    main: Path,
    drop_ins: str,
    is_required: bool,
    environ: Mapping[str, str],
    flags: Mapping[str, object] | None = None,
    policy: PolicyLayer | None = None,
) -> Loaded[Kind]:
    """The same for a file of any kind, with its drop-ins in a folder of that name beside it."""
    gathered = _Gathered()
    if policy is not None:
        _take_policy(gathered, policy, is_arrays=True)
    _read_into(gathered, main, main.name, is_required=is_required)
    for drop_in in _drop_ins(gathered, main.parent / drop_ins):
        _read_into(gathered, drop_in, f"{drop_ins}/{drop_in.name}", is_required=True)
    if policy is not None:
        _take_policy(gathered, policy, is_arrays=False)
    for name, text in sorted(environ.items()):
        _read_variable(gathered, name, text)
    for dotted, value in (flags or {}).items():
        _put(gathered, tuple(dotted.split(".")), value, "flag")
    config = None
    try:
        config = model.model_validate(gathered.tree)
    except ValidationError as error:
        gathered.faults += fault_texts(error, gathered.origins, model)
    if gathered.faults or config is None:
        raise ConfigError(tuple(gathered.faults))
    return Loaded(config=config, origins=gathered.origins, files=tuple(gathered.files))


def _drop_ins(gathered: _Gathered, folder: Path) -> list[Path]:
    try:
        names = sorted(entry.name for entry in os.scandir(folder))
    except FileNotFoundError:
        return []
    except OSError as error:
        gathered.faults.append(f"{folder.name}: cannot be listed: {error.strerror}")
        return []
    names = [name for name in names if name.endswith(".toml") and not name.startswith(".")]
    if len(names) > DROP_INS_MAX:
        gathered.faults.append(f"{folder.name}: {len(names)} drop-ins, more than {DROP_INS_MAX}")
    return [folder / name for name in names[:DROP_INS_MAX]]


def _read_into(gathered: _Gathered, path: Path, label: str, *, is_required: bool) -> None:
    """Merge one file; what is wrong with it is a fault, and the other files are still read."""
    label = shown(label, is_quoted=False)
    try:
        text = _text(path)
    except FileNotFoundError:
        if is_required:
            gathered.faults.append(f"{label}: no such file ({path})")
        return
    except OSError as error:
        gathered.faults.append(f"{label}: cannot be read: {error.strerror or error}")
        return
    except ValueError as error:
        gathered.faults.append(f"{label}: {error}")
        return
    try:
        tree = tomllib.loads(text)
    except RecursionError:
        gathered.faults.append(f"{label}: nested too deeply")
        return
    except ValueError as error:
        gathered.faults.append(_syntax_fault(label, str(error)))
        return
    gathered.files.append(path)
    _take(gathered, tree, places(text), label)


def _take_policy(gathered: _Gathered, policy: PolicyLayer, *, is_arrays: bool) -> None:
    """The fleet's word: its ``[[tenant]]`` entries before all others, for the first that matches counts; the
    rest of it after all files. What it may not say is a fault."""
    label = f"fleet policy {policy.version}"
    try:
        tree, _ = checked(policy.settings)
    except ConfigError as error:
        if is_arrays:
            gathered.faults += [f"{label}: {fault}" for fault in error.faults]
        return
    part = {key: value for key, value in tree.items() if (key in ADDING_ARRAYS) is is_arrays}
    lines = {
        place: line for place, line in places(policy.settings).items() if str(place[0]) in part
    }
    _take(gathered, part, lines, label)
    if policy.is_safe_set and not is_arrays:
        only_observing(gathered.tree)
        gathered.origins[("agent", "mode")] = f"{label}, which has run out"


def _take(
    gathered: _Gathered, tree: dict[str, Any], lines: Mapping[Place, int], label: str
) -> None:
    """Merge what was parsed, and note where it was said."""
    offsets = {key: len(_entries(gathered.tree.get(key))) for key in ADDING_ARRAYS}
    for place, line in lines.items():
        if len(place) > 1 and place[0] in ADDING_ARRAYS and isinstance(place[1], int):
            place = (place[0], place[1] + offsets[str(place[0])], *place[2:])
        gathered.origins[place] = f"{label}:{line}"
    for place in _leaves(tree, offsets):
        if place not in gathered.origins or not _is_from(gathered.origins[place], label):
            gathered.origins[place] = label
    _merge(gathered.tree, tree)


def _text(path: Path) -> str:
    # O_NONBLOCK: opening a FIFO somebody put there would otherwise wait for a writer for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("not a regular file")
        data = file.read(FILE_MAX_BYTES + 1)
    if len(data) > FILE_MAX_BYTES:
        raise ValueError("larger than 1 MiB")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"not UTF-8 (byte {error.start}, line {line})") from error


def _syntax_fault(label: str, message: str) -> str:
    # Expected '=' after a key in a key/value pair (at line 3, column 7)
    if message.startswith("Exceeds the limit"):
        return f"{label}: not TOML: a number with too many digits"
    text, mark, where = message.partition(" (at ")
    if not mark:
        return f"{label}: not TOML: {shown(message, is_quoted=False)}"
    words = where.rstrip(")").replace(",", "").split()
    if len(words) == 4 and words[1].isdecimal() and words[3].isdecimal():
        return f"{label}:{words[1]}:{words[3]}: not TOML: {text}"
    lines = "the end of the file" if where.startswith("end") else where.rstrip(")")
    return f"{label}: not TOML: {text} (at {lines})"


def _is_from(origin: str, label: str) -> bool:
    return origin == label or origin.startswith(f"{label}:")


def _leaves(tree: dict[str, Any], offsets: Mapping[str, int]) -> list[Place]:
    """Paths of a file's values as they will stand in the merged tree."""
    found: list[Place] = []
    stack: list[tuple[Place, object]] = [((key,), value) for key, value in tree.items()]
    while stack:
        place, value = stack.pop()
        if isinstance(value, dict):
            stack += [((*place, key), child) for key, child in value.items()]
        elif isinstance(value, list) and len(place) == 1 and place[0] in ADDING_ARRAYS:
            base = offsets[str(place[0])]
            stack += [((*place, base + number), child) for number, child in enumerate(value)]
        else:
            found.append(place)
    return found


def _entries(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _merge(into: dict[str, Any], tree: dict[str, Any], *, is_root: bool = True) -> None:
    for key, value in tree.items():
        old = into.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            _merge(old, value, is_root=False)
        elif is_root and key in ADDING_ARRAYS and isinstance(old, list) and isinstance(value, list):
            old.extend(value)
        else:
            into[key] = value


def _read_variable(gathered: _Gathered, name: str, text: str) -> None:
    """``GPUWARDEN_QUOTA__SOFT_HOLD_S=20s``; without a double underscore it is not a setting."""
    if not name.startswith(ENV_PREFIX) or "__" not in name[len(ENV_PREFIX) :]:
        return
    place = tuple(name[len(ENV_PREFIX) :].lower().split("__"))
    origin = f"env {shown(name, is_quoted=False)}"
    if place[0] in ADDING_ARRAYS:
        gathered.faults.append(f"{origin}: [[{place[0]}]] entries can only be said in a file")
        return
    try:
        said = tomllib.loads(f"value = {text}")
        value = said["value"] if said.keys() == {"value"} else text
    except (ValueError, RecursionError):
        value = text  # 10s, 8GiB, enforce: words need no quotes here
    _put(gathered, place, value, origin)


def _put(gathered: _Gathered, place: Place, value: object, origin: str) -> None:
    node = gathered.tree
    for key in place[:-1]:
        below = node.get(str(key))
        if not isinstance(below, dict):
            below = node[str(key)] = {}
        node = below
    node[str(place[-1])] = value
    gathered.origins[place] = origin
