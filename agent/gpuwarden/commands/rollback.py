"""``gpuwarden rollback``: a service goes back to an earlier version of itself, on this node or on the fleet's."""

from collections.abc import Callable
from pathlib import Path

import click

from gpuwarden.adapters.node_client import NodeClient
from gpuwarden.clock import SystemClock
from gpuwarden.commands.output import EXIT_PROBLEM, Out, Styled, answers, end
from gpuwarden.commands.reading import asks_agent
from gpuwarden.errors import Refused
from gpuwarden.model.action import Kind, Result
from gpuwarden.model.decision import Incident
from gpuwarden.policy.rollback import How, spelled

LOOK_S = 0.25
SHOWN_S = 5.0
FLEET_LOOK_S = 1.0
DEFAULT_ADDRESS = "127.0.0.1:9440"
DEFAULT_DIR = Path("/var/lib/gpuwarden-aggregator/admin")


@click.command()
@click.argument("service")
@click.option("--to", "version", default="", help="Which; by default the last good one.")
@click.option("--reason", default="", help="Why: stands in the incident.")
@click.option("--anyway", is_flag=True, help="Whatever the GPU under it does.")
@click.option(
    "--fleet", "is_fleet", is_flag=True, help="On every node that carries it, batch by batch."
)
@click.option(
    "--aggregator",
    "address",
    envvar="GPUWARDEN_AGGREGATOR",
    default=DEFAULT_ADDRESS,
    show_default=True,
    metavar="HOST:PORT",
    help="With --fleet: whom to ask.",
)
@click.option(
    "--identity",
    "folder",
    envvar="GPUWARDEN_IDENTITY",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_DIR,
    show_default=True,
    help="With --fleet: the folder of the certificate under which to ask.",
)
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0, 3600),
    default=600.0,
    show_default=True,
    help="Seconds to wait for its end; 0: do not.",
)
@asks_agent
@answers
def rollback(
    connect: Callable[[], NodeClient],
    out: Out,
    service: str,
    version: str,
    reason: str,
    anyway: bool,
    is_fleet: bool,
    address: str,
    folder: Path,
    wait_s: float,
) -> None:
    """Start an earlier version of SERVICE in the place of the present one.

    Its container is made again as it is on record: image, arguments, environment, mounts, labels, GPU. One that does
    not come up is taken away again, and the present one runs on. Exit code 1 when that happened. What is wrong with
    the GPU is ruled out first.
    """
    if is_fleet:
        _everywhere(out, address, folder, service, version, reason, anyway, wait_s)
        return
    how = How.ANYWAY if anyway else How.ASKED
    with connect() as client:
        text, incident = client.command("rollback", spelled(service, version, how), reason)
        if not out.is_json:
            out.show([f"{text} ({incident})" if incident else text])
        found = _ended(client, incident, wait_s) if wait_s and incident else None
    steps = [s for s in found.steps if s.kind == Kind.ROLL_BACK] if found is not None else []
    is_done = not incident or (bool(steps) and all(s.result == Result.DONE for s in steps))
    if out.is_json:
        over = not incident or (found is not None and found.closed_at is not None)
        said = {"text": text, "incident": incident or None, "is_over": over, "is_done": is_done}
        out.data({**said, "steps": steps})
    elif found is not None:
        out.show([Styled(s.text, "green" if s.result == Result.DONE else "red") for s in steps])
        out.show([found.outcome])
    if wait_s and not is_done:
        end(EXIT_PROBLEM)


def _ended(client: NodeClient, incident: str, wait_s: float) -> Incident:
    """The incident once it is over, or as it is when the time is."""
    clock = SystemClock()
    begun = clock.now()
    while True:
        clock.sleep(LOOK_S)
        spent_s = clock.now() - begun
        try:
            found = client.explain(incident).incident
        except Refused:
            if spent_s >= SHOWN_S:
                raise
            continue  # it is shown with the picture of that tick, which is yet to come
        if found.closed_at is not None or spent_s >= wait_s:
            return found


def _everywhere(
    out: Out,
    address: str,
    folder: Path,
    service: str,
    version: str,
    reason: str,
    anyway: bool,
    wait_s: float,
) -> None:
    from gpuwarden.adapters.rollout_client import RolloutClient
    from gpuwarden.model.ramp import CampaignState, Turn

    clock = SystemClock()
    with RolloutClient(address, folder) as client:
        now = client.roll_back(service, version, reason, is_anyway=anyway)
        if not out.is_json:
            out.show([f"{service} goes back on {len(now.nodes)} nodes ({now.id})"])
        until = clock.now() + wait_s
        while now.state is CampaignState.RUNNING and clock.now() < until:
            clock.sleep(FLEET_LOOK_S)
            _, campaigns, _ = client.rollouts(service)
            now = next((each for each in campaigns if each.id == now.id), now)
    if out.is_json:
        out.data({"rollback": now})
    elif wait_s:
        for turn in now.nodes:
            style = "green" if turn.turn is Turn.DONE else ""
            out.show([Styled(f"{turn.node}: {turn.turn.value} {turn.detail}".rstrip(), style)])
        out.show([f"{now.state.value}: {now.why}" if now.why else now.state.value])
    if wait_s and now.state is not CampaignState.DONE:
        end(EXIT_PROBLEM)
