"""``gpuwarden fleet``: the whole fleet, from its aggregator."""

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from gpuwarden.adapters.fleet_client import FleetClient
from gpuwarden.commands.explain import story
from gpuwarden.commands.fleet_panes import (
    as_data,
    incident_table,
    node_table,
    query_table,
    status_parts,
    tenant_table,
)
from gpuwarden.commands.output import EXIT_PROBLEM, Out, Part, Styled, answers, end
from gpuwarden.model.fleet import NodeState
from gpuwarden.wire.v1 import fleet_pb2 as pb

DEFAULT_ADDRESS = "127.0.0.1:9440"
DEFAULT_DIR = Path("/var/lib/gpuwarden-aggregator/admin")
WELL = frozenset({NodeState.HEALTHY.value, NodeState.CORDONED.value})


def asks_fleet(
    verb: Callable[..., None], make: Callable[..., FleetClient] = FleetClient
) -> Callable[..., None]:
    """Adds ``--aggregator``, ``--identity`` and ``--timeout`` and hands the verb a function ``connect``."""

    @click.option(
        "--aggregator",
        "address",
        envvar="GPUWARDEN_AGGREGATOR",
        default=DEFAULT_ADDRESS,
        show_default=True,
        metavar="HOST:PORT",
        help="Whom to ask.",
    )
    @click.option(
        "--identity",
        "folder",
        envvar="GPUWARDEN_IDENTITY",
        type=click.Path(path_type=Path, file_okay=False),
        default=DEFAULT_DIR,
        show_default=True,
        help="The folder of the certificate under which to ask.",
    )
    @click.option(
        "--timeout",
        "timeout_s",
        type=click.FloatRange(min=0.1, max=600),
        default=10.0,
        show_default=True,
        help="Seconds to wait for an answer.",
    )
    @functools.wraps(verb)
    def wrapped(*args: Any, address: str, folder: Path, timeout_s: float, **kwargs: Any) -> None:
        def connect() -> FleetClient:
            return make(address, folder, timeout_s=timeout_s)

        verb(*args, connect=connect, **kwargs)

    return wrapped


@click.group()
def fleet() -> None:
    """The whole fleet: its nodes, their incidents, and orders to them.

    Exit codes: 0 ok, 1 problem found, 2 usage, 3 aggregator not reachable.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


@fleet.command()
@asks_fleet
@answers
def status(connect: Callable[[], FleetClient], out: Out) -> None:
    """Is the fleet well? Exit code 1 when it is not."""
    with connect() as client:
        said = client.status()
    if out.is_json:
        out.data({"status": as_data(said)})
    else:
        out.show(status_parts(said, out))
    is_well = all(_is_well(each) for each in said.states)
    if said.findings or said.incidents_open or not is_well:
        end(EXIT_PROBLEM)


def _is_well(count: pb.StateCount) -> bool:
    from gpuwarden.adapters.fleet_client import state_word

    return state_word(count.state) in WELL


@fleet.command()
@click.option("--state", "states", multiple=True, type=click.Choice([s.value for s in NodeState]))
@click.option("--group", default="", help="Only of this group.")
@click.option("--prefix", default="", help="Only names that begin so.")
@asks_fleet
@answers
def nodes(
    connect: Callable[[], FleetClient],
    out: Out,
    states: Sequence[str],
    group: str,
    prefix: str,
) -> None:
    """Every node, how it is and why."""
    wanted = [NodeState(each) for each in states]
    with connect() as client:
        found = list(client.nodes(states=wanted, group=group, prefix=prefix))
    if out.is_json:
        out.data({"nodes": [as_data(each) for each in found]})
    else:
        out.show([node_table(found, out)] if found else ["no nodes"])


@fleet.command()
@click.option("--node", default="", help="Only of this node.")
@click.option("--open", "is_open_only", is_flag=True, help="Leave the closed ones out.")
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@asks_fleet
@answers
def incidents(
    connect: Callable[[], FleetClient], out: Out, node: str, is_open_only: bool, limit: int
) -> None:
    """What happened anywhere, newest first. Exit code 1 when one is open."""
    with connect() as client:
        found, has_more = client.incidents(is_open_only=is_open_only, node=node, limit=limit)
    if out.is_json:
        rows = [{"node": name, "incident": incident} for name, incident in found]
        out.data({"incidents": rows, "has_more": has_more})
    else:
        parts: list[Part] = [incident_table(found, out)] if found else ["no incidents"]
        out.show([*parts, Styled("more (--limit)", "dim")] if has_more else parts)
    if any(incident.closed_at is None for _, incident in found):
        end(EXIT_PROBLEM)


@fleet.command()
@click.argument("incident")
@click.option("--node", default="", help="Whose, where the incident alone is ambiguous.")
@asks_fleet
@answers
def explain(connect: Callable[[], FleetClient], out: Out, incident: str, node: str) -> None:
    """Why: one incident by its id, the beginning of it, or `last`; from its node where that answers."""
    with connect() as client:
        name, explained, not_fresh = client.explain(node, incident)
    if out.is_json:
        out.data(
            {
                "node": name,
                "not_fresh": not_fresh,
                "incident": explained.incident,
                "tenant": explained.tenant,
                "withheld": explained.withheld,
            }
        )
        return
    head: list[Part] = [Styled(f"on node {name}", "bold")]
    if not_fresh:
        head.append(Styled(f"as it was last told: {not_fresh}", "yellow"))
    out.show([*head, *story(explained, out)])


@fleet.command()
@click.option("--group", default="", help="Only of this group.")
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=30, show_default=True)
@asks_fleet
@answers
def top(connect: Callable[[], FleetClient], out: Out, group: str, limit: int) -> None:
    """Who holds most GPU memory anywhere, by each node's newest sample."""
    with connect() as client:
        found = list(client.nodes(group=group, with_sample=True))
    if out.is_json:
        out.data({"nodes": [as_data(each) for each in found]})
    else:
        out.show([tenant_table(found, limit, out)])


@fleet.command()
@click.argument("question", type=click.Choice(["snapshot", "incidents"]))
@click.argument("nodes", nargs=-1)
@click.option("--group", default="", help="Only of this group.")
@click.option("--deadline", "deadline_s", type=click.FloatRange(0.1, 30), default=3.0)
@asks_fleet
@answers
def query(
    connect: Callable[[], FleetClient],
    out: Out,
    question: str,
    nodes: Sequence[str],
    group: str,
    deadline_s: float,
) -> None:
    """Ask NODES (by default all that are connected) themselves, at once.

    Exit code 1 when some did not answer; they are named.
    """
    with connect() as client:
        said = client.query(question, nodes, group, deadline_s)
    if out.is_json:
        out.data({"answers": [as_data(each) for each in said.answers]})
    else:
        out.show([query_table(said, out)])
    if said.unanswered:
        end(EXIT_PROBLEM)


@fleet.command()
@click.argument("node")
@click.argument("subject", default="node")
@click.option("--reason", required=True, help="Why: stands with schedulers, and in the incident.")
@asks_fleet
@answers
def cordon(
    connect: Callable[[], FleetClient], out: Out, node: str, subject: str, reason: str
) -> None:
    """Take NODE, or one of its devices, out of use until it is uncordoned."""
    _order(connect, out, node, "cordon", subject, reason)


@fleet.command()
@click.argument("node")
@click.argument("subject", default="node")
@click.option("--reason", required=True, help="Why: stands with schedulers, and in the incident.")
@asks_fleet
@answers
def drain(
    connect: Callable[[], FleetClient], out: Out, node: str, subject: str, reason: str
) -> None:
    """Cordon NODE, or one of its devices, and have it emptied as its configuration allows (repair.drain_evicts)."""
    _order(connect, out, node, "drain", subject, reason)


@fleet.command()
@click.argument("node")
@click.argument("subject", default="node")
@click.option("--reason", default="", help="Why: stands in the incident.")
@asks_fleet
@answers
def uncordon(
    connect: Callable[[], FleetClient], out: Out, node: str, subject: str, reason: str
) -> None:
    """Put NODE, or one of its devices, back in use at once. Needs nobody's leave, ever."""
    _order(connect, out, node, "uncordon", subject, reason)


def _order(
    connect: Callable[[], FleetClient], out: Out, node: str, verb: str, subject: str, reason: str
) -> None:
    with connect() as client:
        text = client.order(node, verb, subject, reason)
    if out.is_json:
        out.data({"node": node, "verb": verb, "subject": subject, "text": text})
    else:
        out.show([f"{node}: {text}"])


@fleet.command()
@click.argument("node")
@click.option("--for", "ttl_s", type=click.FloatRange(1, 86_400), default=600.0, show_default=True)
@asks_fleet
@answers
def invite(connect: Callable[[], FleetClient], out: Out, node: str, ttl_s: float) -> None:
    """A one-time invitation with which NODE joins: give it to `gpuwarden enroll` there."""
    with connect() as client:
        join = client.invite(node, ttl_s)
    if out.is_json:
        out.data({"node": node, "join": join})
    else:
        click.echo(join)


@fleet.command()
@click.argument("node")
@click.option("--reason", required=True, help="Why: stands in the audit, and NODE is told.")
@asks_fleet
@answers
def deny(connect: Callable[[], FleetClient], out: Out, node: str, reason: str) -> None:
    """Keep NODE out at once, whatever certificate it shows: it was taken over, or its key is lost."""
    with connect() as client:
        client.deny(node, reason)
    _tell(out, node, f"{node} is kept out until `gpuwarden fleet allow {node}`")


@fleet.command()
@click.argument("node")
@asks_fleet
@answers
def allow(connect: Callable[[], FleetClient], out: Out, node: str) -> None:
    """Let NODE in again, with the certificate it has, or a new one by an invitation."""
    with connect() as client:
        client.allow(node)
    _tell(out, node, f"{node} may come again")


@fleet.command()
@click.argument("node")
@click.option("--reason", required=True, help="Why: stands in the audit.")
@asks_fleet
@answers
def forget(connect: Callable[[], FleetClient], out: Out, node: str, reason: str) -> None:
    """Forget NODE, which is gone for good: it is not waited for and counts in its group no more."""
    with connect() as client:
        client.forget(node, reason)
    _tell(out, node, f"{node} is forgotten; it joins again by an invitation")


@fleet.command()
@click.argument("group")
@click.option("--reason", required=True, help="Why: stands in the audit and in the status.")
@click.option("--for", "for_s", type=click.FloatRange(1, 3600), default=600.0, show_default=True)
@asks_fleet
@answers
def thaw(
    connect: Callable[[], FleetClient], out: Out, group: str, reason: str, for_s: float
) -> None:
    """Give permits to GROUP though it is frozen: for a while, and for the nodes that are sick now."""
    with connect() as client:
        for_s = client.thaw(group, for_s, reason)
    _tell(out, group, f"group {group} may have permits for {for_s:.0f} s")


def _tell(out: Out, node: str, text: str) -> None:
    if out.is_json:
        out.data({"node": node, "text": text})
    else:
        out.show([text])
