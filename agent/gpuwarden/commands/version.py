"""``gpuwarden version``."""

import platform
from importlib import metadata
from typing import Any

import click

import gpuwarden
from gpuwarden.commands.output import Column, Out, answers

PARTS = (
    "click",
    "docker",
    "grpcio",
    "nvidia-ml-py",
    "prometheus-client",
    "protobuf",
    "psutil",
    "pydantic",
    "rich",
    "structlog",
)
"""What it runs on: the runtime dependencies."""


@click.command()
@answers
def version(out: Out) -> None:
    """The version, and those of what it runs on."""
    if out.is_json:
        out.data(versions())
        return
    parts: dict[str, str | None] = versions()["parts"]
    rows = [[name, found or "not installed"] for name, found in parts.items()]
    out.show(
        [
            f"gpuwarden {gpuwarden.__version__} (Python {platform.python_version()})",
            out.table((Column(""), Column("")), rows),
        ]
    )


def versions() -> dict[str, Any]:
    """Ours, Python's, and by name those of the parts; None: not installed."""
    return {
        "gpuwarden": gpuwarden.__version__,
        "python": platform.python_version(),
        "parts": {name: _version(name) for name in PARTS},
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
