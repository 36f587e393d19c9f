"""``gpuwarden tenants``: who holds device memory, and what they may hold."""

from collections.abc import Callable
from typing import Any

import click

from gpuwarden.adapters.node_client import NodeClient
from gpuwarden.commands import panes
from gpuwarden.commands.output import EXIT_PROBLEM, Out, Part, Styled, answers, end
from gpuwarden.commands.reading import asks_agent
from gpuwarden.commands.watching import watch_option, watched
from gpuwarden.commands.words import size
from gpuwarden.model.status import View
from gpuwarden.model.tenant import Use


@click.command()
@asks_agent
@answers
@watch_option
def tenants(connect: Callable[[], NodeClient], out: Out, watch_s: float | None) -> None:
    """The tenants: class, memory on each device, quota, state.

    Exit code 1 when one of them is over its quota.
    """
    with connect() as client:
        view = watched(client, out, watch_s, draw=lambda view: picture(view, out), data=as_data)
    if any(_is_over(view, use) for use in view.snapshot.uses):
        end(EXIT_PROBLEM)


def picture(view: View, out: Out) -> list[Part]:
    """The table, then what no listed process holds and which labels were refused."""
    parts: list[Part] = [panes.tenant_table(view, out)]
    index = {device.id: device.index for device in view.snapshot.devices}
    parts += [
        Styled(
            f"{size(count)} on GPU {index.get(device, '?')} belong to no listed process", "yellow"
        )
        for device, count in view.snapshot.unattributed
        if count > 0
    ]
    parts += [
        Styled(f"{tenant.name or tenant.id}: {fault}", "yellow")
        for tenant in view.snapshot.tenants
        for fault in (*tenant.policy_faults, *([tenant.cannot_act] if tenant.cannot_act else []))
    ]
    return parts


def as_data(view: View) -> dict[str, Any]:
    """Tenants with their uses and cases."""
    return {
        "tenants": [
            {
                "tenant": tenant,
                "uses": [use for use in view.snapshot.uses if use.tenant == tenant.id],
                "case": next((case for case in view.cases if case.tenant == tenant.id), None),
            }
            for tenant in view.snapshot.tenants
        ],
        "unattributed": dict(view.snapshot.unattributed),
    }


def _is_over(view: View, use: Use) -> bool:
    if not panes.is_seen(view, use):
        return False
    for tenant in view.snapshot.tenants:
        if tenant.id == use.tenant:
            limit = tenant.hard_bytes if tenant.hard_bytes is not None else tenant.soft_bytes
            return limit is not None and use.used_bytes > limit
    return False
