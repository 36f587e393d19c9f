"""Once, or again and again: what every verb that shows the present does with ``--watch``."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import click

from gpuwarden.adapters.node_client import NodeClient
from gpuwarden.commands.output import Out, Part
from gpuwarden.errors import Unavailable
from gpuwarden.model.status import View

watch_option = click.option(
    "-w",
    "--watch",
    "watch_s",
    type=click.FloatRange(min=0.1, max=3600),
    is_flag=False,
    flag_value=1.0,
    default=None,
    metavar="[SECONDS]",
    help="Again every so many seconds (1) until interrupted.",
)


def watched(
    client: NodeClient,
    out: Out,
    watch_s: float | None,
    *,
    draw: Callable[[View], Sequence[Part]],
    data: Callable[[View], Mapping[str, Any]],
) -> View:
    """Show the present once, or until interrupted; the last picture that was shown."""
    last: list[View] = []

    def kept() -> Iterator[View]:
        pictures = iter([client.view()]) if watch_s is None else client.watch(1 / watch_s)
        for view in pictures:
            last[:] = [view]
            yield view

    try:
        if out.is_json:
            for view in kept():
                out.data(data(view))
        elif watch_s is None:
            for view in kept():
                out.show(draw(view))
        else:
            out.follow(draw(view) for view in kept())
    except KeyboardInterrupt:
        pass  # how a person ends a watch
    if not last:
        raise Unavailable("interrupted before the agent's first picture")
    return last[0]
