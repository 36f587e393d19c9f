"""Shares as the text of a router's configuration: nginx' ``split_clients``, Envoy's ``weighted_clusters``."""

import json
import re

from gpuwarden.errors import Refused
from gpuwarden.model.ramp import Shares

_WORD = re.compile(r"[A-Za-z0-9_.-]{1,128}\Z", re.ASCII)
TOTAL = 10_000
"""Hundredths of a percent: the finest that ``split_clients`` takes."""


def parts(told: Shares) -> list[tuple[str, int]]:
    """Each arm with its hundredths of a percent, summing to ``TOTAL``; an arm that has nothing has nothing. What
    rounding leaves goes to the largest. ``Refused`` where a name is none that a configuration may hold."""
    for word in (told.service, *(each.arm for each in told.arms)):
        if not _WORD.match(word):
            raise Refused(f"{word[:40]!r} cannot stand in a router's configuration")
    found = [(each.arm, round(each.share * TOTAL)) for each in told.arms]
    if not found:
        raise Refused(f"{told.service} has no arms")
    largest = max(range(len(found)), key=lambda n: found[n][1])
    rest = TOTAL - sum(part for _, part in found)
    found[largest] = (found[largest][0], found[largest][1] + rest)
    return found


def nginx(told: Shares) -> str:
    """A file for ``include`` in ``http``: ``$gpuwarden_SERVICE`` is the arm of a unit, by ``$gpuwarden_unit``, which
    the operator sets to what names a user: never to anything of the single request."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", told.service)
    lines = [f"split_clients $gpuwarden_unit $gpuwarden_{name} {{"]
    arms = [(arm, part) for arm, part in parts(told) if part]
    for arm, part in arms[:-1]:
        lines.append(f"    {part / 100:.2f}% {arm};")
    lines.append(f"    * {arms[-1][0]};")
    return "\n".join([*lines, "}", ""])


def envoy(told: Shares) -> str:
    """A ``RouteConfiguration`` in a file for Envoy's filesystem subscription: a cluster SERVICE-ARM an arm, chosen by
    the hash of the header ``x-unit`` alone."""
    clusters = [
        {"name": f"{told.service}-{arm}", "weight": part} for arm, part in parts(told) if part
    ]
    route = {
        "match": {"prefix": "/"},
        "route": {
            "weighted_clusters": {
                "clusters": clusters,
                "use_hash_policy": True,
            },
            "hash_policy": [{"header": {"header_name": "x-unit"}}],
        },
    }
    resource = {
        "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        "name": told.service,
        "virtual_hosts": [{"name": told.service, "domains": ["*"], "routes": [route]}],
    }
    return json.dumps({"resources": [resource]}, indent=2) + "\n"
