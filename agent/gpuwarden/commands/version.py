"""``gpuwarden version``."""

import platform
from importlib import metadata

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
    parts = {name: _version(name) for name in PARTS}
    if out.is_json:
        out.data(
            {
                "gpuwarden": gpuwarden.__version__,
                "python": platform.python_version(),
                "parts": parts,
            }
        )
        return
    rows = [[name, found or "not installed"] for name, found in parts.items()]
    out.show(
        [
            f"gpuwarden {gpuwarden.__version__} (Python {platform.python_version()})",
            out.table((Column(""), Column("")), rows),
        ]
    )


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
