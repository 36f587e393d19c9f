"""What the source tree says about itself, read with `ast` and never executed.

Every check takes the root of a tree and returns its violations as `path:line: what is wrong`, so that
test_architecture.py can run the same function on the repository and on a tree built to break the rule.
"""

from __future__ import annotations

import ast
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.layers import ALL, LAYERS, NUMERIC, PACKAGE, PURE_STDLIB, SKETCHES, Layer, layer_of

MAX_LINES = 400
MAX_TEST_LINES = 500  # a test file stays the one file of its rule, and holds many short cases
GENERATED = (
    "agent/gpuwarden/policy/fault/catalogue_data.py",
    "agent/gpuwarden/wire/cri_v1/",
    "agent/gpuwarden/wire/v1/",
)
NO_INIT = ("agent", "proto", "packaging", "scripts", "systemd")  # source roots and plain folders
EMPTY_WORDS = frozenset({"utils", "helpers", "manager", "base", "util", "helper", "common", "misc"})
IMPURE_CALLS = frozenset({"open", "print", "input", "exec", "eval", "__import__", "breakpoint"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """One imported name, as far as its dots go: `from a.b import c` is `a.b.c`."""

    name: str
    line: int
    runs_at_import: bool  # not inside a function, not under `if TYPE_CHECKING`


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One Python file of the tree; `module` is dotted below the package, "" for its __init__."""

    path: str
    module: str | None  # None outside the package
    tree: ast.Module
    lines: int


def sources(root: Path) -> list[Source]:
    """Every Python file under agent/ and tests/, generated code left out; sorted by path."""
    found = []
    for top in ("agent", "tests"):
        for file in sorted((root / top).rglob("*.py")):
            path = file.relative_to(root).as_posix()
            if path.startswith(GENERATED):
                continue
            text = file.read_text(encoding="utf-8")
            found.append(
                Source(
                    path=path,
                    module=_module(path),
                    tree=ast.parse(text, filename=path),
                    lines=text.count("\n"),
                )
            )
    return found


def _module(path: str) -> str | None:
    prefix = f"agent/{PACKAGE}/"
    if not path.startswith(prefix):
        return None
    dotted = path.removeprefix(prefix).removesuffix(".py").replace("/", ".")
    return "" if dotted == "__init__" else dotted.removesuffix(".__init__")


def imports(source: Source) -> Iterator[Import]:
    """Every import statement of the file, those inside functions too."""
    yield from _imports(source.tree.body, source, runs_at_import=True)


def _imports(body: Iterable[ast.AST], source: Source, *, runs_at_import: bool) -> Iterator[Import]:
    for node in body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(name=alias.name, line=node.lineno, runs_at_import=runs_at_import)
        elif isinstance(node, ast.ImportFrom):
            origin = _origin(node, source)
            for alias in node.names:
                yield Import(
                    name=f"{origin}.{alias.name}", line=node.lineno, runs_at_import=runs_at_import
                )
        elif isinstance(node, ast.If) and _dotted(node.test).endswith("TYPE_CHECKING"):
            yield from _imports(node.body, source, runs_at_import=False)
            yield from _imports(node.orelse, source, runs_at_import=runs_at_import)
        else:
            is_later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(
                ast.iter_child_nodes(node), source, runs_at_import=runs_at_import and not is_later
            )


def _origin(node: ast.ImportFrom, source: Source) -> str:
    if not node.level:
        return node.module or ""
    package = source.path.removesuffix(".py").removeprefix("agent/").split("/")[: -node.level]
    return ".".join([*package, *([node.module] if node.module else [])])


def _dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _own_layer(name: str) -> str | None:
    """The layer an import of our own reaches; `gpuwarden.__version__` is the package itself."""
    inside = name.removeprefix(PACKAGE).removeprefix(".")
    return "" if inside.startswith("__version") else layer_of(inside)


def forbidden_imports(root: Path) -> list[str]:
    """Imports that the table does not allow, and modules that are not in the table."""
    wrong = []
    for source in sources(root):
        if source.module is None:
            continue
        key = layer_of(source.module)
        if key is None:
            wrong.append(f"{source.path}:1: no row in LAYERS for {source.module}")
            continue
        for item in imports(source):
            why = _why_forbidden(key, LAYERS[key], item.name)
            if why is not None:
                wrong.append(f"{source.path}:{item.line}: {key or PACKAGE} {why}")
    return wrong


def _why_forbidden(key: str, layer: Layer, name: str) -> str | None:
    top = name.split(".", maxsplit=1)[0]
    if top == PACKAGE:
        target = _own_layer(name)
        if target is None:
            return f"imports {name}, which has no row in LAYERS"
        if layer.own == ALL or target in {key, ""} or target in layer.own:
            return None
        return f"may not import {name} ({target})"
    if top in sys.stdlib_module_names:
        if layer.is_pure and top not in PURE_STDLIB:
            return f"is pure and may not import {name}"
        return None
    if top in layer.third or (layer.third == ALL and top not in NUMERIC | SKETCHES):
        return None
    return f"may not import the package {top}"


def impure_calls(root: Path) -> list[str]:
    """Built-ins that reach the world from code that promises not to."""
    return [
        f"{source.path}:{node.lineno}: {node.func.id}() in a pure module"
        for source in sources(root)
        if source.module is not None
        and (key := layer_of(source.module)) is not None
        and LAYERS[key].is_pure
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in IMPURE_CALLS
    ]


def numeric_within_reach(root: Path) -> list[str]:
    """Ways by which starting the CLI or the agent would load the numeric stack (128 ms, 12 MiB)."""
    modules = {source.module: source for source in sources(root) if source.module is not None}
    starts = [
        m
        for m in modules
        if (layer_of(m) or "").split(".")[0] in {"cli", "commands", "wiring", "node", "adapters"}
    ]
    came_from: dict[str, str] = {}
    queue = deque(starts)
    wrong = []
    while queue:
        module = queue.popleft()
        for item in imports(modules[module]):
            if not item.runs_at_import:
                continue
            if item.name.split(".", maxsplit=1)[0] in NUMERIC:
                way = [module]
                while way[-1] in came_from:
                    way.append(came_from[way[-1]])
                wrong.append(
                    f"{modules[module].path}:{item.line}: loads {item.name}: {' <- '.join(way)}"
                )
            for target in _loaded(item.name, modules.keys()):
                if target not in came_from and target not in starts:
                    came_from[target] = module
                    queue.append(target)
    return wrong


def _loaded(name: str, modules: Iterable[str]) -> list[str]:
    """Modules that an import of this name executes: the packages on its way, then itself."""
    if not name.startswith(f"{PACKAGE}."):
        return []
    parts = name.split(".")[1:]
    ways = {".".join(parts[:length]) for length in range(1, len(parts) + 1)}
    return [module for module in modules if module in ways]


def misplaced_inits(root: Path) -> list[str]:
    """An __init__.py that would turn a plain folder or a source root into a package."""
    wrong = []
    for top in NO_INIT:
        deep = () if top == "agent" else (root / top).rglob("__init__.py")
        wrong += [root / top / "__init__.py", *deep]
    return sorted(
        {
            f"{p.relative_to(root).as_posix()}:1: a folder, not a package"
            for p in wrong
            if p.exists()
        }
    )


def _names_used(source: Source) -> Iterator[tuple[int, str]]:
    """Every dotted name of the file with its imports resolved: `m.patch` is `unittest.mock.patch`."""
    known: dict[str, str] = {}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                known[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                known[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                yield node.lineno, f"{node.module}.{alias.name}"
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and (dotted := _dotted(node)):
            first, _, rest = dotted.partition(".")
            yield node.lineno, f"{known.get(first, first)}.{rest}"


def _uses(root: Path, banned: str) -> list[str]:
    return sorted(
        {
            f"{source.path}:{line}: {banned}"
            for source in sources(root)
            for line, name in _names_used(source)
            if name == banned or name.startswith(f"{banned}.")
        }
    )


def patches(root: Path) -> list[str]:
    """Uses of unittest.mock.patch, under whatever name it was imported."""
    return _uses(root, "unittest.mock.patch")


def sleeps(root: Path) -> list[str]:
    """Uses of time.sleep outside clock.py and sim/."""
    allowed = (f"agent/{PACKAGE}/clock.py:", f"agent/{PACKAGE}/sim/")
    return [use for use in _uses(root, "time.sleep") if not use.startswith(allowed)]


def long_modules(root: Path) -> list[str]:
    """Modules of more than MAX_LINES lines, test files of more than MAX_TEST_LINES."""
    found = []
    for source in sources(root):
        limit = MAX_TEST_LINES if source.path.startswith("tests/") else MAX_LINES
        if source.lines > limit:
            found.append(f"{source.path}:{source.lines}: more than {limit} lines")
    return found


def empty_names(root: Path) -> list[str]:
    """Modules whose name says nothing about what is in them."""
    return [
        f"{source.path}:1: a name that says nothing"
        for source in sources(root)
        if EMPTY_WORDS & set(source.path.removesuffix(".py").split("/"))
    ]
