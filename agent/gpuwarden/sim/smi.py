"""``nvidia-smi --gpu-reset -i DEVICE`` of a simulated host: the one verb a repair needs of that program.

    python -m gpuwarden.sim.smi FOLDER --gpu-reset -i DEVICE

It says and returns what the real one does: 0 when the device was reset; else a sentence and another status.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from gpuwarden.errors import Unavailable
from gpuwarden.sim.control import Control, Rejected

FAILED = 255
USAGE = 2


def main(arguments: Sequence[str]) -> int:
    """The exit status."""
    folder, *words = arguments
    if len(words) != 3 or words[0] not in ("--gpu-reset", "-r") or words[1] not in ("-i", "--id"):
        sys.stderr.write("this simulated nvidia-smi knows only: --gpu-reset -i DEVICE\n")
        return USAGE
    device: str | int = int(words[2]) if words[2].isdigit() else words[2]
    try:
        with Control(Path(folder)) as control:
            control.request("reset", device=device)
    except Rejected as error:
        if "in use" in str(error):
            sys.stdout.write(f"GPU {device} is currently in use by another process.\n")
        else:
            sys.stdout.write(f"Unable to reset GPU {device}: {error}\n")
        return FAILED
    except Unavailable as error:
        sys.stdout.write(f"NVIDIA-SMI has failed: {error}\n")
        return FAILED
    sys.stdout.write(f"GPU {device} was successfully reset.\nAll done.\n")
    return 0


def write_program(folder: Path) -> Path:
    """An ``nvidia-smi`` for this host, that needs nothing of its environment."""
    source = Path(__file__).resolve().parents[2]
    program = folder / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\n"
        f"PYTHONPATH='{source}' exec '{sys.executable}' -m gpuwarden.sim.smi '{folder}' \"$@\"\n",
        encoding="utf-8",
    )
    program.chmod(0o755)
    return program


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
