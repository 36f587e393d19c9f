"""``gpuwarden ready``: may an instance be sent work."""

from collections.abc import Callable

import click

from gpuwarden.adapters.node_client import NodeClient
from gpuwarden.commands.output import EXIT_PROBLEM, Out, Part, Styled, answers, end
from gpuwarden.commands.reading import asks_agent


@click.command()
@click.argument("name", metavar="TENANT")
@asks_agent
@answers
def ready(connect: Callable[[], NodeClient], out: Out, name: str) -> None:
    """Whether TENANT (a service, a tenant's name, or its id) may be sent work, and what speaks against it.

    Its probe, its devices, what is being done to it, and how old all that is. Exit code 1 when it is not fit.
    A load balancer asks the same of /ready/TENANT beside the metrics: 200 or 503.
    """
    with connect() as client:
        found = client.ready(name)
    if out.is_json:
        out.data(
            {
                "name": found.name,
                "ready": found.is_fit,
                "service": found.service or None,
                "tenant": found.tenant,
                "reasons": found.reasons,
            }
        )
    else:
        head = f"{found.name} is {'ready' if found.is_fit else 'not ready'}"
        parts: list[Part] = [Styled(head, "bold green" if found.is_fit else "bold red")]
        parts += [f"  {reason}" for reason in found.reasons]
        out.show(parts)
    if not found.is_fit:
        end(EXIT_PROBLEM)
