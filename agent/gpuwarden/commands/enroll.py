"""``gpuwarden enroll``: this node joins a fleet, or renews what it joined with."""

import os
import socket
from pathlib import Path
from typing import TextIO

import click

from gpuwarden.commands.config import file_option, read_settings
from gpuwarden.commands.output import Out, answers
from gpuwarden.commands.words import clock

JOIN_MAX_BYTES = 8 * 1024


@click.command()
@click.option(
    "--aggregator",
    "address",
    required=True,
    metavar="HOST:PORT",
    help="Where nodes join (aggregator.enrol_listen); with --renew, where they speak.",
)
@click.option(
    "--join-file",
    type=click.File("r"),
    default="-",
    help="What `gpuwarden fleet invite` printed; - reads it from standard input [-].",
)
@click.option("--node", default=None, help="The name it was invited under [this host's name].")
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Where key and certificate are to lie [fleet.identity_dir of the agent's configuration].",
)
@file_option
@click.option("--renew", is_flag=True, help="A new certificate under the one that lies there.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(1, 600), default=30.0)
@answers
def enroll(
    out: Out,
    address: str,
    join_file: TextIO,
    node: str | None,
    folder: Path | None,
    path: Path | None,
    renew: bool,
    timeout_s: float,
) -> None:
    """Give this node its identity in a fleet.

    The invitation is good once, for one node, for a short time, and names the authority that this node will
    trust: keep it as a password until it is used.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from gpuwarden.adapters.pki import joining
    from gpuwarden.aggregator.join import parts_of

    if folder is None:
        folder = read_settings(path, is_aggregators=False).config.fleet.identity_dir
    if renew:
        fresh = joining.renew(address, folder, timeout_s)
    else:
        token, root = parts_of(join_file.read(JOIN_MAX_BYTES))
        name = (node or socket.gethostname()).lower()
        fresh = joining.enrol(address, token, root, name, folder, timeout_s)
    until = clock(fresh.not_after_wall)
    if out.is_json:
        out.data({"node": fresh.identity.name, "not_after_wall": fresh.not_after_wall})
    else:
        out.show([f"{fresh.identity.name} is a node of fleet {fresh.domain} until {until}"])
