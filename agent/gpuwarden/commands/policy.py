"""``gpuwarden policy``: the fleet's policy, from the key that signs it to the nodes that have it in force."""

import functools
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from gpuwarden.adapters.policy_client import PolicyClient
from gpuwarden.commands.fleet import asks_fleet
from gpuwarden.commands.fleet_panes import as_data
from gpuwarden.commands.output import EXIT_PROBLEM, Out, Styled, answers, end
from gpuwarden.commands.policy_panes import preview_parts, status_parts
from gpuwarden.commands.words import plain
from gpuwarden.config_types import parse_seconds
from gpuwarden.errors import Refused, Unavailable
from gpuwarden.model.policy import Policy
from gpuwarden.wire import policy_text
from gpuwarden.wire.v1 import policy_pb2 as pb

USUAL_VALID = "30d"
Connect = Callable[[], PolicyClient]
_asks = functools.partial(asks_fleet, make=PolicyClient)


def _valid(_context: click.Context, _param: click.Parameter, value: str) -> float:
    try:
        return parse_seconds(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _stage(_context: click.Context, _param: click.Parameter, values: Sequence[str]) -> Any:
    """``5%``, ``batch-*,dev`` or ``batch-*:10%``."""
    stages = []
    for value in values:
        groups, mark, percent = value.rpartition(":")
        if not mark and not percent.endswith("%"):
            groups, percent = percent, "100%"
        number, named = percent.removesuffix("%"), [each for each in groups.split(",") if each]
        is_share = number.isdecimal() and len(number) <= 3 and 1 <= int(number) <= 100
        if not is_share or (not named and (mark or not value.endswith("%"))):
            raise click.BadParameter(f"expected 5%, GROUP,... or GROUP,...:5%, got {value}")
        stages.append(pb.RolloutStage(groups=named, percent=int(number)))
    return stages


key_option = click.option(
    "--key",
    "key_path",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="The private key of `gpuwarden policy keygen`; it never goes to the aggregator.",
)
valid_option = click.option(
    "--valid",
    "valid_s",
    default=USUAL_VALID,
    show_default=True,
    callback=_valid,
    help="For how long it holds; after that nodes only observe.",
)


@click.group()
def policy() -> None:
    """The fleet's policy: sign it, see whom it would touch, publish it, go back.

    Exit codes: 0 ok, 1 problem found, 2 usage, 3 aggregator not reachable.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


@policy.command()
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False))
@answers
def keygen(path: Path, out: Out) -> None:
    """A new key in PATH. Keep it off the aggregator, and a copy in a safe.

    What is printed is the public key, for fleet.policy_keys of every node and policy.keys of the aggregator.
    """
    from gpuwarden.adapters.pki.signing import make_key

    public = make_key(path)
    if out.is_json:
        out.data({"public_key": public, "path": path})
    else:
        click.echo(public)


@policy.command()
@click.argument("settings", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@key_option
@click.option("--version", type=click.IntRange(1), required=True, help="Above every one before.")
@click.option("--group", "groups", multiple=True, help="For nodes of this group (glob) [all].")
@click.option("--fleet", default="gpuwarden", show_default=True, help="The fleet's trust domain.")
@click.option("--note", default="", help="What it is for; nodes and people are told.")
@valid_option
@click.option("--out", "bundle", type=click.Path(path_type=Path, dir_okay=False), required=True)
@answers
def sign(
    settings: Path,
    key_path: Path,
    version: int,
    groups: Sequence[str],
    fleet: str,
    note: str,
    valid_s: float,
    bundle: Path,
    out: Out,
) -> None:
    """Sign SETTINGS, a file as in conf.d of an agent, as policy VERSION. Needs nobody's network.

    Every mistake in it is listed first, and what a fleet's policy may not say.
    """
    text = _read(settings).decode(errors="replace")
    head = _head(version, fleet, groups, note, valid_s)
    data = _signed(key_path, head, text)
    try:
        bundle.write_bytes(data)
    except OSError as error:
        raise Unavailable(f"{bundle}: {error.strerror}") from error
    if out.is_json:
        out.data({"version": version, "bundle": bundle, "digest": policy_text.digest_of(data)})
    else:
        out.show([f"policy {version} in {bundle}"])


def _head(version: int, fleet: str, groups: Sequence[str], note: str, valid_s: float) -> Any:
    from gpuwarden.model.policy import PolicyHead

    now = float(int(time.time()))
    return PolicyHead(
        version=version,
        fleet=fleet,
        groups=tuple(groups),
        issued_wall=now,
        not_after_wall=now + valid_s,
        note=note,
    )


def _signed(key_path: Path, head: Any, settings: str) -> bytes:
    from gpuwarden.adapters.pki.signing import load_key
    from gpuwarden.adapters.pki.signing import sign as signed
    from gpuwarden.config_policy import checked

    checked(settings)
    return signed(load_key(key_path), head, settings)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(policy_text.BUNDLE_MAX_BYTES + 1)
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror}") from error
    if len(data) > policy_text.BUNDLE_MAX_BYTES:
        raise Refused(f"{path}: larger than {policy_text.BUNDLE_MAX_BYTES} bytes")
    return data


@policy.command()
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--group", "groups", multiple=True, help="Of a file that is not signed yet [all].")
@_asks
@answers
def diff(path: Path, groups: Sequence[str], connect: Connect, out: Out) -> None:
    """What PATH (signed, or still a file of settings) would change, and whom it would touch.

    Exit code 1 when it touches protected tenants, or would have many evicted.
    """
    data = _read(path)
    is_signed = data.startswith(policy_text.MARK)
    with connect() as client:
        said = client.preview(
            bundle=data if is_signed else b"",
            settings=b"" if is_signed else data,
            groups=() if is_signed else groups,
        )
    _show(said, out)
    if said.must_confirm:
        end(EXIT_PROBLEM)


def _show(said: pb.PreviewPolicyResponse, out: Out) -> None:
    if out.is_json:
        out.data({"preview": as_data(said)})
    else:
        out.show(preview_parts(said, out))


@policy.command()
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option(
    "--stage",
    "stages",
    multiple=True,
    callback=_stage,
    help="One after the other: 5%, batch-*,dev or batch-*:10%; all that is left comes last.",
)
@click.option("--soak", "soak_s", default="0s", callback=_valid, help="Between two stages.")
@click.option("--yes", "is_confirmed", is_flag=True, help="Even if it touches protected tenants.")
@_asks
@answers
def publish(
    path: Path,
    stages: Sequence[pb.RolloutStage],
    soak_s: float,
    is_confirmed: bool,
    connect: Connect,
    out: Out,
) -> None:
    """Show whom the signed policy in PATH would touch, then give it to the nodes.

    It goes out stage by stage, and halts by itself when the nodes that have it fare worse than before.
    """
    data = _read(path)
    with connect() as client:
        said = client.preview(bundle=data)
        if not out.is_json:
            out.show(preview_parts(said, out))
        if said.must_confirm and not is_confirmed:
            raise Refused(f"not published: {said.must_confirm}; --yes publishes it nevertheless")
        version = client.publish(data, stages, soak_s, is_confirmed=is_confirmed)
    if out.is_json:
        out.data({"version": version, "preview": as_data(said)})
    else:
        out.show([Styled(f"policy {version} is published; gpuwarden policy status", "green")])


@policy.command()
@click.argument("version", type=click.IntRange(1))
@key_option
@click.option("--note", default="", help="Why.")
@click.option(
    "--signed-by", "others", multiple=True, help="An earlier public key, if that signed VERSION."
)
@valid_option
@_asks
@answers
def rollback(
    version: int,
    key_path: Path,
    note: str,
    others: Sequence[str],
    valid_s: float,
    connect: Connect,
    out: Out,
) -> None:
    """Bring back what policy VERSION said: as a new version, signed anew, for all at once.

    What the aggregator has of it is signed again only if this key, or one of --signed-by, has signed it before.
    """
    from dataclasses import replace

    with connect() as client:
        old = _ours(client.policy_text(version), version, key_path, others)
        newest = client.policies(1).policies[0].version
        head = _head(newest + 1, old.head.fleet, old.head.groups, note, valid_s)
        data = _signed(key_path, replace(head, restores=version), old.settings)
        fresh = client.roll_back(data)
    if out.is_json:
        out.data({"version": fresh, "restores": version})
    else:
        out.show([Styled(f"policy {fresh} says again what policy {version} said", "green")])


def _ours(bundle: bytes, version: int, key_path: Path, others: Sequence[str]) -> Policy:
    """An aggregator that was taken over hands out what it likes: nothing of that is signed unseen."""
    from gpuwarden.adapters.pki.signing import load_key, public_of, verified

    found = verified(bundle, [public_of(load_key(key_path)), *others])
    if found.head.version != version:
        raise Refused(f"the aggregator gave policy {found.head.version} for policy {version}")
    return found


@policy.command()
@click.option("--nodes", "nodes_max", type=click.IntRange(1, 1000), default=100, show_default=True)
@_asks
@answers
def status(nodes_max: int, connect: Connect, out: Out) -> None:
    """What was published, how far it has come, and which nodes are not where they should be.

    Exit code 1 when a roll-out was halted or a node has refused its policy or outlived it.
    """
    with connect() as client:
        said = client.policies(nodes_max)
    if out.is_json:
        out.data({"policies": as_data(said)})
    else:
        out.show(status_parts(said, out))
    is_halted = any(each.state == "halted" for each in said.policies)
    if is_halted or any(each.state in ("refused", "expired", "foreign") for each in said.drifted):
        end(EXIT_PROBLEM)


@policy.command()
@click.argument("version", type=click.IntRange(0), default=0)
@_asks
@answers
def show(version: int, connect: Connect, out: Out) -> None:
    """Policy VERSION (the newest) as it was signed."""
    with connect() as client:
        found = policy_text.policy_of(client.policy_text(version))
    if out.is_json:
        out.data({"head": found.head, "settings": found.settings, "digest": found.digest})
    else:
        for line in found.bundle.decode().splitlines():
            click.echo(plain(line))


@policy.command()
@click.argument("version", type=click.IntRange(0), default=0)
@click.option("--reason", required=True, help="Why: stands in the status, and in the audit.")
@_asks
@answers
def halt(version: int, reason: str, connect: Connect, out: Out) -> None:
    """Give policy VERSION (the newest) to no further node."""
    _steer(version, connect, out, is_halt=True, reason=reason)


@policy.command()
@click.argument("version", type=click.IntRange(0), default=0)
@click.option("--reason", default="", help="Why.")
@_asks
@answers
def resume(version: int, reason: str, connect: Connect, out: Out) -> None:
    """Let a halted roll-out go on; how the nodes are now is what later is measured against."""
    _steer(version, connect, out, is_halt=False, reason=reason)


def _steer(version: int, connect: Connect, out: Out, *, is_halt: bool, reason: str) -> None:
    with connect() as client:
        which, state = client.steer(version, is_halt=is_halt, reason=reason)
    if out.is_json:
        out.data({"version": which, "state": state})
    else:
        out.show([f"the roll-out of policy {which} is {state}"])
