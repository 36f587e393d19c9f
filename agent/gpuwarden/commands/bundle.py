"""``gpuwarden support-bundle``: what somebody needs who looks at this host from afar, and nothing secret."""

import io
import os
import socket
import tarfile
from collections.abc import Callable
from pathlib import Path

import click

from gpuwarden.adapters.node_client import NodeClient
from gpuwarden.clock import SystemClock
from gpuwarden.commands.bundle_parts import Collection
from gpuwarden.commands.config import file_option
from gpuwarden.commands.output import Out, Styled, answers
from gpuwarden.commands.reading import asks_agent
from gpuwarden.commands.words import clock, size
from gpuwarden.errors import Unavailable


@click.command("support-bundle")
@click.argument(
    "file", type=click.Path(path_type=Path, dir_okay=False, writable=True), required=False
)
@file_option
@asks_agent
@answers
def support_bundle(
    connect: Callable[[], NodeClient], out: Out, path: Path | None, file: Path | None
) -> None:
    """Write one FILE.tar.gz with what is needed to find out what is wrong here.

    Configuration, doctor, status, incidents, the logs' ends, versions, metrics. Secrets are taken out, by
    their value and by their name: look at it all the same before you give it away. The agent may be down.
    """
    wall = SystemClock().wall()
    write(Collection.of(connect, path), file, out, wall)


def write(parts: Collection, file: Path | None, out: Out, wall: float, role: str = "") -> None:
    """One archive that only its writer may read; what is not in it is named."""
    stamp = clock(wall).replace(" ", "-").replace(":", "")
    name = f"gpuwarden-{role}support-{socket.gethostname()}-{stamp}"
    target = file or Path(f"{name}.tar.gz")
    data = packed(parts.files, name, wall)
    try:
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise click.ClickException(f"{target}: {error.strerror}") from error
    try:
        with open(fd, "wb") as written:
            written.write(data)
    except OSError as error:
        target.unlink(missing_ok=True)
        raise Unavailable(f"{target}: {error.strerror}") from error
    if out.is_json:
        out.data({"file": target, "bytes": len(data), "missing": parts.missing})
        return
    lines = [f"not in it: {what}: {why}" for what, why in parts.missing.items()]
    written_line = f"{target}: {size(len(data))}, {len(parts.files)} files, readable by you alone"
    out.show([*lines, Styled(written_line, "bold"), "look at it before you give it away"])


def packed(files: dict[str, bytes], name: str, wall: float) -> bytes:
    """A tar.gz of them below one folder."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz") as archive:
        for path, data in sorted(files.items()):
            entry = tarfile.TarInfo(f"{name}/{path}")
            entry.size, entry.mode, entry.mtime = len(data), 0o600, int(wall)
            archive.addfile(entry, io.BytesIO(data))
    return held.getvalue()
