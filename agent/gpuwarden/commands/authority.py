"""``gpuwarden authority``: who signs the fleet's certificates, and a new one for a running fleet."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from gpuwarden.clock import SystemClock
from gpuwarden.commands.audit import config_option
from gpuwarden.commands.output import Column, Out, answers
from gpuwarden.commands.words import clock

force_option = click.option(
    "--force", is_flag=True, help="Do not wait until every certificate was renewed."
)
RESTART = "restart the aggregator (every one of them) for it to count"


@click.group()
def authority() -> None:
    """Who signs the fleet's certificates. On the aggregator's host.

    A new authority takes three steps, each once every certificate was renewed since the one before, and each
    followed by a restart of the aggregator: prepare, switch, finish. Where several aggregators serve one fleet,
    copy the folder pki to the others after each step, and start them again too.
    """


@authority.command()
@config_option
@answers
def show(config_path: Path | None, out: Out) -> None:
    """Every authority that is trusted now."""
    from gpuwarden.adapters.pki.rolling import known

    folder, _ = _place(config_path)
    found = known(folder)
    if out.is_json:
        out.data({"authorities": found})
        return
    columns = [Column("ROLE"), Column("MARK"), Column("SINCE"), Column("UNTIL")]
    rows = [[k.role, k.mark, clock(k.since_wall), clock(k.not_after_wall)] for k in found]
    out.show([out.table(columns, rows) if rows else "no authority yet"])


@authority.command()
@config_option
@answers
def prepare(config_path: Path | None, out: Out) -> None:
    """Make the next authority; nodes come to trust it as they renew."""
    from gpuwarden.adapters.pki import rolling

    folder, life_s = _place(config_path)
    rolling.prepare(folder, SystemClock().wall())
    _tell(out, f"the next authority is made: {RESTART}, and switch in {life_s / 3600:g} h or later")


@authority.command()
@config_option
@force_option
@answers
def switch(config_path: Path | None, out: Out, force: bool) -> None:
    """Let the next authority sign; the old one stays trusted."""
    from gpuwarden.adapters.pki import rolling

    life_s = _step(config_path, rolling.switch, force)
    _tell(out, f"the new authority signs: {RESTART}, and finish in {life_s / 3600:g} h or later")


@authority.command()
@config_option
@force_option
@answers
def finish(config_path: Path | None, out: Out, force: bool) -> None:
    """Trust the old authority no longer."""
    from gpuwarden.adapters.pki import rolling

    _step(config_path, rolling.finish, force)
    _tell(out, f"the old authority is forgotten: {RESTART}")


def _step(config_path: Path | None, step: Callable[..., None], force: bool) -> float:
    folder, life_s = _place(config_path)
    step(folder, SystemClock().wall(), 0.0 if force else life_s)
    return life_s


def _place(config_path: Path | None) -> tuple[Path, float]:
    """The folder of the authority, and how long a certificate lives."""
    from gpuwarden.aggregator.wiring import load

    centre: Any = load(config_path).aggregator
    return centre.state_dir / "pki", centre.certificate_s


def _tell(out: Out, text: str) -> None:
    if out.is_json:
        out.data({"text": text})
    else:
        out.show([text])
