"""Keeps new pods off this node: a taint and a condition of our own, and ``spec.unschedulable`` where nobody has
set it before us.

Every change names the version that was read, so that whoever changes the node in between wins and is looked at
again. An annotation of ours lists the cordons, another records that we set unschedulable; what the API records
of who owns that field has the last word.
"""

import json
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from gpuwarden.adapters.cordon.kube_door import (
    MANAGER,
    Conflict,
    Credentials,
    KubeDoor,
    from_kubeconfig,
    from_pod,
)
from gpuwarden.clock import Clock
from gpuwarden.config_cordon import KubernetesCordon
from gpuwarden.errors import Unavailable
from gpuwarden.model.repair import Subject

CORDONS = "gpuwarden.io/cordons"
OURS = "gpuwarden.io/set-unschedulable"
CONDITION = "GpuwardenCordoned"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
TRIES = 4
_INCIDENT = re.compile(r"inc-[0-9a-f]{1,16}-[0-9]{1,10}\Z", re.ASCII)


class KubernetesBackend:
    """A ``Backend`` of ``HostCordons``. One thread calls it."""

    name = "kubernetes"

    def __init__(
        self,
        door: KubeDoor,
        who: Callable[[], Credentials],
        node: str,
        taint: str,
        wall: Callable[[], float],
    ) -> None:
        """``who`` reads the credentials, for each call anew."""
        self._door = door
        self._who = who
        self._path = f"/api/v1/nodes/{node}"
        self._taint = taint
        self._wall = wall

    @staticmethod
    def of(cfg: KubernetesCordon, clock: Clock, environ: Mapping[str, str]) -> "KubernetesBackend":
        """As the settings say."""
        file = cfg.kubeconfig
        node = cfg.node or environ.get("NODE_NAME") or socket.gethostname().lower()
        return KubernetesBackend(
            KubeDoor(cfg.timeout_s),
            (lambda: from_pod(environ)) if file is None else (lambda: from_kubeconfig(file)),
            node,
            cfg.taint,
            clock.wall,
        )

    def cordon(self, subject: Subject, incident: str, reason: str) -> str:
        return self._change(lambda known: {**known, incident: reason[:160]})

    def uncordon(self, subject: Subject, incident: str, still: Sequence[str]) -> str:
        return self._change(lambda known: {one: known.get(one, "") for one in still})

    def _change(self, change: Callable[[dict[str, str]], dict[str, str]]) -> str:
        """Read, change, write; again where somebody has been faster."""
        for _ in range(TRIES):
            who = self._who()
            node = self._door.get(who, self._path)
            known = cordons_of(node)
            wanted = change(known)
            try:
                word = self._write(who, node, known, wanted)
                self._tell(who, node, wanted)
            except Conflict:
                continue
            return word
        raise Unavailable(
            f"the node was changed by others {TRIES} times while it was being changed"
        )

    def _write(
        self,
        who: Credentials,
        node: Mapping[str, Any],
        known: Mapping[str, str],
        wanted: Mapping[str, str],
    ) -> str:
        spec = table(node, "spec")
        is_closed = spec.get("unschedulable") is True
        is_ours = is_closed and closed_by_us(node)
        others = [t for t in taints_of(node) if t.get("key") != self._taint]
        notes: dict[str, str | None] = {CORDONS: json.dumps(dict(wanted)) if wanted else None}
        change: dict[str, Any] = {}
        if wanted:
            change["taints"] = [
                *others,
                {"key": self._taint, "value": "true", "effect": "NoSchedule"},
            ]
            if not is_closed:
                change["unschedulable"], notes[OURS] = True, "true"
        else:
            if len(others) != len(taints_of(node)):
                change["taints"] = others
            notes[OURS] = None
            if is_ours:
                change["unschedulable"] = None
        version = table(node, "metadata").get("resourceVersion")
        is_tainted = len(others) != len(taints_of(node))
        if wanted == known and (is_tainted and is_closed if wanted else not change):
            return _word(wanted, is_closed=is_closed, is_ours=is_ours)
        body = {"metadata": {"resourceVersion": version, "annotations": notes}, "spec": change}
        self._door.patch(who, self._path, body, MERGE)
        return _word(wanted, is_closed=is_closed, is_ours=is_ours)

    def _tell(self, who: Credentials, node: Mapping[str, Any], wanted: Mapping[str, str]) -> None:
        """The condition: for people and for whoever watches nodes."""
        conditions = table(node, "status").get("conditions")
        rows = conditions if isinstance(conditions, list) else []
        old = next((c for c in rows if isinstance(c, Mapping) and c.get("type") == CONDITION), {})
        status = "True" if wanted else "False"
        message = "; ".join(f"{one}: {why}" for one, why in wanted.items())[:1000] or "none stands"
        if not old and not wanted:
            return
        if (old.get("status"), old.get("message")) == (status, message):
            return
        now = datetime.fromtimestamp(self._wall(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        since = old.get("lastTransitionTime") if old.get("status") == status else now
        row = {
            "type": CONDITION,
            "status": status,
            "reason": "Cordoned" if wanted else "NotCordoned",
            "message": message,
            "lastHeartbeatTime": now,
            "lastTransitionTime": since,
        }
        self._door.patch(who, f"{self._path}/status", {"status": {"conditions": [row]}}, STRATEGIC)


def _word(wanted: Mapping[str, str], *, is_closed: bool, is_ours: bool) -> str:
    is_foreign = is_closed and not is_ours
    if wanted:
        return "tainted; cordoned by others before" if is_foreign else "cordoned"
    return "taint removed; others' cordon stays" if is_foreign else "uncordoned"


def table(raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The object below a key; empty where there is none."""
    value = raw.get(key)
    return value if isinstance(value, Mapping) else {}


def taints_of(node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The node's taints."""
    rows = table(node, "spec").get("taints")
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []


def cordons_of(node: Mapping[str, Any]) -> dict[str, str]:
    """Incident -> reason of the cordons that are on record at the node; what is no incident is not ours."""
    text = table(table(node, "metadata"), "annotations").get(CORDONS)
    try:
        found = json.loads(text) if isinstance(text, str) else {}
    except (ValueError, RecursionError):
        found = {}
    rows = found.items() if isinstance(found, dict) else ()
    return {k: str(v)[:160] for k, v in rows if _INCIDENT.match(k)}


def closed_by_us(node: Mapping[str, Any]) -> bool:
    """Whether ``spec.unschedulable`` is of our setting: by our own note, and by the API's record of who owns
    the field, which an administrator's own cordon changes."""
    metadata = table(node, "metadata")
    if table(metadata, "annotations").get(OURS) != "true":
        return False
    rows = metadata.get("managedFields")
    owners = [
        row.get("manager")
        for row in (rows if isinstance(rows, list) else [])
        if isinstance(row, Mapping) and "f:unschedulable" in table(table(row, "fieldsV1"), "f:spec")
    ]
    return not owners or owners == [MANAGER]
