"""The doctor on the fleet: this node's certificate, and whether an aggregator takes it."""

from gpuwarden.commands.checks import Check, Result
from gpuwarden.commands.words import plain, span
from gpuwarden.config_fleet import FleetConfig
from gpuwarden.errors import Unavailable

REACH_S = 3.0
NAME = "aggregator"


def check_fleet(cfg: FleetConfig, wall: float) -> list[Check]:
    """Two lines for a node of a fleet, one for a node that is alone."""
    if not cfg.aggregator:
        seen = "not in a fleet (fleet.aggregator is not set)"
        return [Check(name=NAME, result=Result.OK, seen=seen)]
    from gpuwarden.adapters.pki.names import read_credentials

    name = "certificate"
    try:
        own = read_credentials(cfg.identity_dir)
    except Unavailable as error:
        seen, _, fix = plain(str(error)).partition("; fix: ")
        join = "gpuwarden fleet invite NODE at the aggregator, then here: gpuwarden enroll"
        return [
            Check(name=name, result=Result.FAILED, seen=seen, fix=fix and join),
            Check(name=NAME, result=Result.UNKNOWN, seen="not asked: there is no certificate"),
        ]
    left_s, life_s = own.not_after_wall - wall, own.not_after_wall - own.not_before_wall
    who = f"{own.identity.name} of fleet {own.domain}"
    if wall < own.not_before_wall:
        certificate = Check(
            name=name,
            result=Result.FAILED,
            seen=f"{who}: begins {span(own.not_before_wall - wall)} from now by this host's clock",
            fix="systemctl enable --now systemd-timesyncd (or chrony): the clock is behind",
        )
    elif left_s <= 0:
        certificate = Check(
            name=name,
            result=Result.FAILED,
            seen=f"{who}: ran out {span(-left_s)} ago",
            fix="gpuwarden fleet invite NODE at the aggregator, then here: gpuwarden enroll",
        )
    elif left_s < life_s / 4:
        certificate = Check(
            name=name,
            result=Result.WARNING,
            seen=f"{who}: runs out in {span(left_s)}, and was not renewed",
            fix="gpuwarden enroll --renew",
        )
    else:
        certificate = Check(name=name, result=Result.OK, seen=f"{who}: good for {span(left_s)}")
    return [certificate, _reached(cfg.aggregator, own)]


def _reached(addresses: tuple[str, ...], own: object) -> Check:
    """A handshake with each, under this node's certificate; nothing is asked."""
    silent = [address for address in addresses if not _shakes_hands(address, own)]
    if not silent:
        seen = f"{', '.join(addresses)}: takes this node's certificate"
        return Check(name=NAME, result=Result.OK, seen=f"{seen}; it compares the clocks itself")
    worst = Result.FAILED if len(silent) == len(addresses) else Result.WARNING
    host = silent[0].rpartition(":")[0]
    return Check(
        name=NAME,
        result=worst,
        seen=f"{', '.join(silent)}: no handshake within {REACH_S:.0f} s",
        fix=f"there: systemctl status gpuwarden-aggregator; here: getent hosts {host}, and the firewall "
        "between; meanwhile this node goes by its own rules",
    )


def _shakes_hands(address: str, own: object) -> bool:
    import os

    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    import grpc

    from gpuwarden.adapters.pki.names import AGGREGATOR_NAME, Credentials

    assert isinstance(own, Credentials)
    channel = grpc.secure_channel(
        address,
        grpc.ssl_channel_credentials(own.authorities_pem, own.key_pem, own.certificate_pem),
        options=(
            ("grpc.ssl_target_name_override", AGGREGATOR_NAME),
            ("grpc.enable_http_proxy", 0),
        ),
    )
    try:
        grpc.channel_ready_future(channel).result(REACH_S)
    except grpc.FutureTimeoutError:
        return False
    finally:
        channel.close()
    return True
