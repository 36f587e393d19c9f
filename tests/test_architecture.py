"""The house rules that can be read from the source, each with a tree that breaks it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import architecture, layers

ROOT = Path(__file__).resolve().parent.parent
Check = Callable[[Path], list[str]]

CHECKS: tuple[Check, ...] = (
    architecture.forbidden_imports,
    architecture.impure_calls,
    architecture.numeric_within_reach,
    architecture.misplaced_inits,
    architecture.patches,
    architecture.sleeps,
    architecture.long_modules,
    architecture.empty_names,
)

A = "agent/gpuwarden"

# What breaks which check, and where the violation must be reported.
BROKEN: tuple[tuple[Check, dict[str, str], str], ...] = (
    # the table, row by row
    (architecture.forbidden_imports, {f"{A}/model/x.py": "import gpuwarden.ports\n"}, f"{A}/model/x.py:1"),
    (architecture.forbidden_imports, {f"{A}/model/x.py": "import pydantic\n"}, f"{A}/model/x.py:1"),
    (architecture.forbidden_imports, {f"{A}/ports.py": "from gpuwarden.policy import d\n"}, f"{A}/ports.py:1"),
    (architecture.forbidden_imports, {f"{A}/policy/q.py": "\nfrom gpuwarden.adapters import nvml\n"}, f"{A}/policy/q.py:2"),
    (architecture.forbidden_imports, {f"{A}/policy/q.py": "from gpuwarden.policy.fleet import fold\n"}, f"{A}/policy/q.py:1"),
    (architecture.forbidden_imports, {f"{A}/policy/q.py": "from gpuwarden.evaluate.drift import psi\n"}, f"{A}/policy/q.py:1"),
    (architecture.forbidden_imports, {f"{A}/policy/q.py": "from gpuwarden.config_files import load\n"}, f"{A}/policy/q.py:1"),
    (architecture.forbidden_imports, {f"{A}/policy/fleet/f.py": "from gpuwarden.node import loop\n"}, f"{A}/policy/fleet/f.py:1"),
    (architecture.forbidden_imports, {f"{A}/evaluate/e.py": "from gpuwarden.policy import q\n"}, f"{A}/evaluate/e.py:1"),
    (architecture.forbidden_imports, {f"{A}/evaluate/fast/e.py": "import numpy\n"}, f"{A}/evaluate/fast/e.py:1"),
    (architecture.forbidden_imports, {f"{A}/wire/convert.py": "from gpuwarden import ports\n"}, f"{A}/wire/convert.py:1"),
    (architecture.forbidden_imports, {f"{A}/client/c.py": "from gpuwarden.model import ids\n"}, f"{A}/client/c.py:1"),
    (architecture.forbidden_imports, {f"{A}/adapters/a.py": "from gpuwarden.sim import world\n"}, f"{A}/adapters/a.py:1"),
    (architecture.forbidden_imports, {f"{A}/adapters/a.py": "def f():\n    from gpuwarden.policy import q\n"}, f"{A}/adapters/a.py:2"),
    (architecture.forbidden_imports, {f"{A}/sim/s.py": "from gpuwarden.adapters import nvml\n"}, f"{A}/sim/s.py:1"),
    (architecture.forbidden_imports, {f"{A}/node/loop.py": "from gpuwarden.adapters import nvml\n"}, f"{A}/node/loop.py:1"),
    (architecture.forbidden_imports, {f"{A}/node/loop.py": "from ..adapters import nvml\n"}, f"{A}/node/loop.py:1"),
    (architecture.forbidden_imports, {f"{A}/aggregator/s.py": "from gpuwarden.node import loop\n"}, f"{A}/aggregator/s.py:1"),
    (architecture.forbidden_imports, {f"{A}/adapters/a.py": "import numpy as np\n"}, f"{A}/adapters/a.py:1"),
    (architecture.forbidden_imports, {f"{A}/novelty.py": ""}, f"{A}/novelty.py:1"),
    (architecture.forbidden_imports, {f"{A}/cli.py": "from gpuwarden import novelty\n"}, f"{A}/cli.py:1"),
    # policy is pure: no I/O, no clock, no logging, no chance
    *(
        (architecture.forbidden_imports, {f"{A}/policy/q.py": f"import {name}\n"}, f"{A}/policy/q.py:1")
        for name in ("os", "time", "datetime", "logging", "random", "socket", "pathlib", "threading", "structlog", "psutil")
    ),
    (architecture.forbidden_imports, {f"{A}/policy/q.py": "if TYPE_CHECKING:\n    import logging\n"}, f"{A}/policy/q.py:2"),
    (architecture.impure_calls, {f"{A}/policy/q.py": "def f(p):\n    return open(p)\n"}, f"{A}/policy/q.py:2"),
    (architecture.impure_calls, {f"{A}/model/m.py": "print(1)\n"}, f"{A}/model/m.py:1"),
    # starting the agent stays cheap
    (
        architecture.numeric_within_reach,
        {
            f"{A}/cli.py": "from gpuwarden.policy import fleet\n",
            f"{A}/policy/__init__.py": "",
            f"{A}/policy/fleet/__init__.py": "from gpuwarden.evaluate import e\n",
            f"{A}/evaluate/__init__.py": "",
            f"{A}/evaluate/e.py": "import numpy\n",
        },
        f"{A}/evaluate/e.py:1: loads numpy: evaluate.e <- policy.fleet <- cli",
    ),
    (architecture.numeric_within_reach, {f"{A}/node/loop.py": "import scipy.stats\n"}, f"{A}/node/loop.py:1"),
    # folders
    *(
        (architecture.misplaced_inits, {f"{top}/__init__.py": ""}, f"{top}/__init__.py:1")
        for top in ("agent", "proto", "packaging", "scripts", "systemd")
    ),
    (architecture.misplaced_inits, {"proto/gpuwarden/__init__.py": ""}, "proto/gpuwarden/__init__.py:1"),
    # patches, under each of their names
    (architecture.patches, {"tests/test_x.py": "from unittest.mock import patch\n"}, "tests/test_x.py:1"),
    (architecture.patches, {"tests/test_x.py": "from unittest import mock\nmock.patch('a')\n"}, "tests/test_x.py:2"),
    (architecture.patches, {"tests/test_x.py": "import unittest.mock as m\nm.patch.object(a, 'b')\n"}, "tests/test_x.py:2"),
    (architecture.patches, {"tests/test_x.py": "import unittest.mock\nunittest.mock.patch('a')\n"}, "tests/test_x.py:2"),
    # sleeps
    (architecture.sleeps, {f"{A}/node/loop.py": "import time\ntime.sleep(1)\n"}, f"{A}/node/loop.py:2"),
    (architecture.sleeps, {f"{A}/adapters/a.py": "from time import sleep\n"}, f"{A}/adapters/a.py:1"),
    (architecture.sleeps, {"tests/test_x.py": "import time as t\nt.sleep(1)\n"}, "tests/test_x.py:2"),
    # sizes and names
    (architecture.long_modules, {f"{A}/node/loop.py": "x = 1\n" * 401}, f"{A}/node/loop.py:401"),
    (architecture.long_modules, {"tests/test_x.py": "x = 1\n" * 501}, "tests/test_x.py:501"),
    (architecture.empty_names, {f"{A}/node/utils.py": ""}, f"{A}/node/utils.py:1"),
    (architecture.empty_names, {"tests/helpers/x.py": ""}, "tests/helpers/x.py:1"),
)  # fmt: skip

# Close to the rules above, and allowed.
LAWFUL = {
    f"{A}/__init__.py": '__version__ = "1"\n',
    f"{A}/cli.py": "import click\nfrom gpuwarden.node import wiring\nfrom gpuwarden import __version__\n",
    f"{A}/clock.py": "import time\ntime.sleep(1)\n",
    f"{A}/errors.py": "",
    f"{A}/ports.py": "from gpuwarden.model.ids import Pid\n",
    f"{A}/model/__init__.py": "",
    f"{A}/model/ids.py": "from dataclasses import dataclass\n",
    f"{A}/policy/__init__.py": "",
    f"{A}/policy/q.py": "import math\nfrom gpuwarden.config import C\nfrom gpuwarden.evaluate.fast import t\n",
    f"{A}/policy/fleet/f.py": "from gpuwarden.evaluate.drift import psi\nfrom gpuwarden.policy import q\n",
    f"{A}/evaluate/drift.py": "import numpy\n",
    f"{A}/node/wiring.py": "from gpuwarden.adapters import nvml\n",
    f"{A}/adapters/nvml.py": "import time\nimport pynvml\nfrom gpuwarden.errors import E\ntime.monotonic()\n",
    f"{A}/sim/hog.py": "from time import sleep\n",
    f"{A}/aggregator/wiring.py": "from gpuwarden.policy.fleet import f\n",
    f"{A}/wire/v1/node_pb2.py": "x = 1\n" * 900,
    "tests/test_x.py": "from unittest.mock import sentinel\nx = 1\n" + "y = 1\n" * 398,
    "proto/gpuwarden/wire/v1/node.proto": "",
}


def plant(root: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_repository_follows(check: Check) -> None:
    assert check(ROOT) == []


@pytest.mark.parametrize(("check", "files", "where"), BROKEN)
def test_check_sees(check: Check, files: dict[str, str], where: str, tmp_path: Path) -> None:
    plant(tmp_path, files)
    found = check(tmp_path)
    assert len(found) == 1
    assert found[0].startswith(where)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_check_accepts_a_lawful_tree(check: Check, tmp_path: Path) -> None:
    plant(tmp_path, LAWFUL)
    assert check(tmp_path) == []


def test_every_check_has_a_tree_that_breaks_it() -> None:
    assert {check for check, _, _ in BROKEN} == set(CHECKS)


def test_every_layer_named_in_the_table_has_a_row() -> None:
    named = frozenset[str]().union(*(layer.own for layer in layers.LAYERS.values()))
    assert named - layers.ALL <= layers.LAYERS.keys()
