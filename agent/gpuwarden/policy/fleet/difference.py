"""What is different between the settings of two policies, setting by setting."""

import json
from collections.abc import Mapping
from typing import Any

from gpuwarden.model.policy import Change

Tree = Mapping[str, Any]


def changes(before: Tree, after: Tree) -> list[Change]:
    """By path. Entries of ``[[tenant]]`` are named by what they match, and their order counts."""
    old, new = _flat(before), _flat(after)
    return [
        Change(path=path, before=old.get(path, ""), after=new.get(path, ""))
        for path in sorted(old.keys() | new.keys())
        if old.get(path, "") != new.get(path, "")
    ]


def said(tree: Tree) -> frozenset[str]:
    """Dotted paths of every table and value that is said."""
    found: set[str] = set()
    stack: list[tuple[str, Any]] = list(tree.items())
    while stack:
        path, value = stack.pop()
        found.add(path)
        if isinstance(value, Mapping):
            stack += [(f"{path}.{key}", child) for key, child in value.items()]
    return frozenset(found)


def _flat(tree: Tree) -> dict[str, str]:
    found: dict[str, str] = {}
    stack: list[tuple[str, Any]] = list(tree.items())
    while stack:
        path, value = stack.pop()
        if isinstance(value, Mapping):
            stack += [(f"{path}.{key}", child) for key, child in value.items()]
        elif _is_tables(value):
            for number, entry in enumerate(value):
                name = _shown(entry.get("match", {}))
                stack.append((f"{path}[{number + 1}] {name}", entry))
        else:
            found[path] = _shown(value)
    return found


def _is_tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, Mapping) for v in value)


def _shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
