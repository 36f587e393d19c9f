"""usage: driver.py ZIG-PYTHON FOLDER: the simulated driver, compiled by ziglang for glibc 2.28, in FOLDER.

Run by the interpreter of the package, whose gpuwarden it compiles.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from gpuwarden.sim.driver import build

python, folder = sys.argv[1:]
build.COMPILE_TIMEOUT_S = (
    1200.0  # with an empty cache zig builds its libc first, and others may use the machine
)
compiler = build.Compiler(
    command=(python, "-m", "ziglang", "cc", "-mcpu=x86_64_v2", "-s"),
    dynamic=("-target", "x86_64-linux-gnu.2.28"),
    static=("-target", "x86_64-linux-musl", "-static"),
)
with tempfile.TemporaryDirectory() as cache:
    os.chmod(cache, 0o700)
    os.environ["ZIG_GLOBAL_CACHE_DIR"] = os.environ["ZIG_LOCAL_CACHE_DIR"] = f"{cache}/zig"
    built = build.build(compiler, Path(cache), (f"-ffile-prefix-map={cache}=/build",)).folder
    shutil.copytree(built, folder, symlinks=True, ignore=shutil.ignore_patterns("*.c", "*.h"))
(Path(folder) / build.MARK).write_text(build.sources_digest() + "\n", encoding="ascii")
for program in ("driverd", "workload"):
    (Path(folder) / program).chmod(0o755)
(Path(folder) / "lib" / build.LIBRARY).chmod(0o644)
subprocess.run(["find", folder, "-name", "*.o", "-delete"], check=True)
