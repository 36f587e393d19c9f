"""A child of an isolated Python is isolated."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = """
import subprocess, sys
sys.path.insert(0, sys.argv[1])
from gpuwarden import interpreter
asked = interpreter.own("-c", "import sys; print(sys.flags.isolated, 'sitecustomized' in sys.modules)")
print(subprocess.run(asked, capture_output=True, text=True, timeout=30, check=True).stdout.strip())
"""


@pytest.mark.parametrize(("options", "said"), [(("-I",), "1 False"), ((), "0 True")])
def test_a_child_is_as_isolated_as_its_parent(
    tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    (tmp_path / "sitecustomized.py").write_text("")
    (tmp_path / "sitecustomize.py").write_text("import sitecustomized")
    ran = subprocess.run(
        [sys.executable, *options, "-c", SCRIPT, str(ROOT / "agent")],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ran.stdout.strip() == said, ran.stderr
