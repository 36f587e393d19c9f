"""Compiles the simulated driver for this host: the library, the driver process, the workloads.

Built once per state of the sources and compiler into a per-user cache, by whichever process comes
first; several may build at once, and the rename that publishes a build is atomic. A package carries a
build of its own sources (``BUILT``): then nothing is compiled, and no compiler is needed.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from gpuwarden.errors import Unsupported

SOURCES = Path(__file__).resolve().parent
COMPILE_TIMEOUT_S = 300.0

BUILT = SOURCES / "built"
MARK = "sources.sha256"  # in it: the sources that it was built from

LIBRARY = "libnvidia-ml.so.1"
WORKLOAD = frozenset({"workload.c", "simclient.c", "hog.c", "serve.c"})
FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra")


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """Where one build lies. The folder is safe to bind-mount read-only into a container."""

    folder: Path

    @property
    def library(self) -> Path:
        return self.folder / "lib" / LIBRARY

    @property
    def driver(self) -> Path:
        return self.folder / "driverd"

    @property
    def workload(self) -> Path:
        """A static program: it runs in any container of this architecture."""
        return self.folder / "workload"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiler:
    """Command lines of one C compiler."""

    command: tuple[str, ...]
    static: tuple[str, ...] = ("-static",)  # what makes a program static
    dynamic: tuple[str, ...] = ()  # what the others are compiled with


def find_compiler(path: str | None = None) -> Compiler:
    """The system compiler (``CC``, cc, gcc, clang), else the one of the ziglang package.

    Raises Unsupported with what to install when there is neither. ``path`` replaces PATH.
    """
    chosen = os.environ.get("CC", "")
    for name in (chosen, "cc", "gcc", "clang"):
        if name and (found := shutil.which(name, path=path)):
            return Compiler(command=(found,))
    if path is None and importlib.util.find_spec("ziglang") is not None:
        return Compiler(
            command=(sys.executable, "-m", "ziglang", "cc"),
            static=("-target", f"{platform.machine()}-linux-musl", "-static"),
        )
    raise Unsupported(
        "no C compiler for the simulated driver: install one (Debian: apt-get install gcc libc6-dev)"
        " or `pip install ziglang`"
    )


def symbols() -> tuple[str, ...]:
    """Every function that the library exports, in the order of its ids."""
    return tuple((SOURCES / "symbols.txt").read_text(encoding="ascii").split())


def _generated() -> dict[str, str]:
    names = symbols()
    ids = "".join(f"  SYM_{name},\n" for name in names)
    texts = "".join(f'  "{name}",\n' for name in names)
    stubs = "".join(f"STUB({name})\n" for name in names)
    return {
        "symbol_ids.h": f"enum {{\n{ids}  SYM_COUNT\n}};\n",
        "symbol_names.h": '#include "symbol_ids.h"\n'
        f"static const char *const symbol_names[SYM_COUNT] = {{\n{texts}}};\n",
        "stubs.c": f'#include "nvml_stub.h"\n{stubs}',
    }


def _key(compiler: Compiler, extra_flags: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for part in (
        *compiler.command,
        *compiler.static,
        *compiler.dynamic,
        *FLAGS,
        *extra_flags,
        platform.machine(),
    ):
        digest.update(part.encode() + b"\0")
    digest.update(sources_digest().encode())
    return digest.hexdigest()[:20]


def sources_digest() -> str:
    """What is compiled, and this module, which says how."""
    digest = hashlib.sha256()
    for source in (Path(__file__), *sorted(SOURCES.glob("*.[cht]*"))):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()


def carried(folder: Path = BUILT) -> Built | None:
    """The build that came with this installation, unless it is of other sources."""
    try:
        mark = (folder / MARK).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return Built(folder=folder) if mark == sources_digest() else None


def _owned_folder(path: Path) -> bool:
    """Is it a folder of ours that nobody else can write? What lies there is going to be run."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        info = path.stat()
    except OSError:
        return False
    return info.st_uid == os.geteuid() and not info.st_mode & 0o022 and os.access(path, os.W_OK)


def cache_folder() -> Path:
    """GPUWARDEN_SIM_CACHE, else the user's cache, else a private folder under the temporary one."""
    home_cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    wanted = os.environ.get("GPUWARDEN_SIM_CACHE")
    places = [Path(wanted)] if wanted else [Path(home_cache, "gpuwarden", "sim")]
    places.append(Path(tempfile.gettempdir(), f"gpuwarden-sim-cache-{os.geteuid()}"))
    for place in places:
        if place.is_absolute() and _owned_folder(place):
            return place
    raise Unsupported(
        f"nowhere to build the simulated driver: {', '.join(map(str, places))} must be writable and"
        " nobody else's (set GPUWARDEN_SIM_CACHE)"
    )


def _run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=COMPILE_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unsupported(f"the C compiler did not run: {error}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-4000:]
        raise Unsupported(f"the simulated driver does not compile ({command[0]}):\n{said}")


def _compile(
    compiler: Compiler, extra_flags: tuple[str, ...], driver_flags: tuple[str, ...], folder: Path
) -> None:
    for name, text in _generated().items():
        (folder / name).write_text(text, encoding="ascii")
    (folder / "lib").mkdir()
    common = [*compiler.command, *FLAGS, *extra_flags, "-I", str(folder), "-I", str(SOURCES)]
    shared = ["-fPIC", "-fvisibility=hidden", "-shared", "-pthread", f"-Wl,-soname,{LIBRARY}"]
    sources = sorted(SOURCES.glob("*.c"))
    library = [str(path) for path in sources if path.name.startswith("nvml_")]
    workload = [str(path) for path in sources if path.name in WORKLOAD]
    driver = [str(path) for path in sources if str(path) not in (*library, *workload)]
    dynamic = [*common, *compiler.dynamic]
    _run([*dynamic, *shared, "-o", f"lib/{LIBRARY}", *library, "stubs.c"], folder)
    _run([*dynamic, *driver_flags, "-o", "driverd", *driver, "-lm"], folder)
    _run([*common, *compiler.static, "-o", "workload", *workload], folder)
    (folder / "lib" / "libnvidia-ml.so").symlink_to(LIBRARY)
    folder.chmod(0o755)  # containers run as other users


def build(
    compiler: Compiler | None = None,
    cache: Path | None = None,
    extra_flags: tuple[str, ...] = (),
    driver_flags: tuple[str, ...] = (),
) -> Built:
    """The programs, compiled if this state of the sources was not yet.

    ``extra_flags`` go to every compilation, ``driver_flags`` to the driver process alone.

    Raises Unsupported when there is no compiler, the sources do not compile with it, or there is
    no folder to build in; the message says what to do.
    """
    if compiler is None and not extra_flags and not driver_flags and (ready := carried()):
        return ready
    compiler = compiler or find_compiler()
    cache = cache or cache_folder()
    final = cache / _key(compiler, (*extra_flags, "--", *driver_flags))
    if (final / "workload").exists():
        return Built(folder=final)
    fresh = Path(tempfile.mkdtemp(prefix="building-", dir=cache))
    try:
        _compile(compiler, extra_flags, driver_flags, fresh)
        with contextlib.suppress(OSError):  # another process published the same build first
            fresh.rename(final)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    if not (final / "workload").exists():
        raise Unsupported(f"could not publish the build of the simulated driver in {final}")
    return Built(folder=final)
