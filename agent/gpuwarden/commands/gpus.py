"""``gpuwarden gpus``: the devices."""

from collections.abc import Callable

import click

from gpuwarden.adapters.node_client import NodeClient
from gpuwarden.commands import panes
from gpuwarden.commands.output import EXIT_PROBLEM, Out, answers, end
from gpuwarden.commands.reading import asks_agent
from gpuwarden.commands.watching import watch_option, watched
from gpuwarden.model.device import Sight


@click.command()
@asks_agent
@answers
@watch_option
def gpus(connect: Callable[[], NodeClient], out: Out, watch_s: float | None) -> None:
    """The devices: memory, load, temperature, power, state.

    Exit code 1 when one of them cannot be seen or needs a repair.
    """
    with connect() as client:
        view = watched(
            client,
            out,
            watch_s,
            draw=lambda view: [panes.gpu_table(view, out)],
            data=lambda view: {
                "devices": [
                    {"device": device, "details": view.device_details.get(device.id, {})}
                    for device in view.snapshot.devices
                ]
            },
        )
    if any(
        device.sight is not Sight.OK or device.recovery_action for device in view.snapshot.devices
    ):
        end(EXIT_PROBLEM)
