"""The first three things to look at, for whoever was woken: by class of fault, else by rule."""

from collections.abc import Mapping

from gpuwarden.model.fault import Topic
from gpuwarden.policy.fault import steps

Steps = tuple[str, str, str]
_TOPICS = frozenset(topic.value for topic in Topic)

BY_RULE: Mapping[str, Steps] = {
    "quota": (
        "gpuwarden tenants: who holds how much of which GPU, against which quota",
        "gpuwarden explain INCIDENT: what was done to it, and what was withheld and why",
        "talk to its owner; end it by hand where gpuwarden may not (docker stop, scancel, systemctl stop)",
    ),
    "reserve": (
        "gpuwarden tenants: who holds the GPU that is too full for its protected tenant",
        "gpuwarden explain INCIDENT: who was to make room, and what stood in the way",
        "move or end the largest tenant there that is not protected, or lower [reserve]",
    ),
    "locked": (
        "gpuwarden gpus: which GPU, and what the driver asks for (reset, reboot)",
        "dmesg -T | grep -i -e NVRM -e xid: the first Xid line is the cause, later ones follow from it",
        "empty the GPU, then nvidia-smi --gpu-reset -i INDEX; where that fails, drain and reboot",
    ),
    "sight": (
        "gpuwarden gpus: which GPU does not answer; the others are watched on",
        "dmesg -T | grep -i -e NVRM -e xid, and lspci | grep -i nvidia: is it still on the bus?",
        "drain the node and reboot it; do not kill -9 what uses the GPU",
    ),
    "unattributed": (
        "nvidia-smi and gpuwarden tenants: which GPU holds bytes that no listed process holds",
        "look for processes that have ended badly (ps -eo pid,stat,comm | grep -w Z) and for managed memory",
        "end the suspect by hand and see whether the bytes come back; else reset the GPU once it is empty",
    ),
    "probe": (
        "gpuwarden ready SERVICE: everything that speaks against it, its device included",
        "gpuwarden explain INCIDENT: what its probe got, how often it was restarted, what was withheld",
        "look at the service's own log (docker logs, journalctl -u), and roll it back if it is a new version",
    ),
    "neighbour": (
        "gpuwarden explain INCIDENT: which service turned red, who grew, what was done about it",
        "gpuwarden tenants: who is on that GPU now",
        "move one of them to another GPU, or give the one that grew a quota",
    ),
    "slo": (
        "gpuwarden status: which service is red, and since when",
        "gpuwarden tenants: who else is on its GPU, and who grows",
        "look at the service itself: its load, its logs, what it depends on",
    ),
    "tombstone": (
        "gpuwarden explain INCIDENT: whose owner was ended again and again",
        "find who starts it (docker compose, cron, a scheduler, a unit) and have that stop",
        "give it the quota it needs, or wait: it is held until its window is over",
    ),
    "arrival": (
        "gpuwarden explain INCIDENT: which device is cordoned, why, and what has started on it",
        "find who starts it (docker compose, cron, a scheduler, a unit) and have it use another GPU",
        "gpuwarden uncordon SUBJECT, if the device is well; cordon.refuse_containers = false lets all start",
    ),
    "placement": (
        "gpuwarden explain INCIDENT: who started on a node of which group",
        "find who starts it (docker compose, cron, a scheduler, a unit) and have it use a node of another group",
        "label it with the class it has (gpuwarden.class), or change [placement.GROUP] admit if it belongs here",
    ),
    "pressure": (
        "gpuwarden tenants: which tenant stalls on its own host memory",
        "look at its memory.current and memory.events in its control group",
        "give it more host memory, or have it use less",
    ),
    "host": (
        "gpuwarden status: what the host is short of",
        "top, free -m, df -h: who uses it up",
        "end or move what does not belong there",
    ),
    "services": (
        "systemctl status nvidia-fabricmanager nvidia-persistenced nvidia-imex: which one does not run?",
        "journalctl -u NAME -b: why did it end, and does it end again?",
        "systemctl restart NAME; a fabric manager of another version than the driver never starts",
    ),
    "persistence": (
        "systemctl status nvidia-persistenced: does it run?",
        "timeout 10 nvidia-smi -q | grep -i persistence: for which GPU is it off?",
        "systemctl enable --now nvidia-persistenced, or nvidia-smi -pm 1",
    ),
    "wallclock": (
        "timedatectl; chronyc tracking: is the clock kept, and how far off is it?",
        "date -u, beside that of another host",
        "let the time service correct it slowly; what is kept in wall time moves with it",
    ),
    "fleet": (
        "gpuwarden fleet status, and fleet nodes --state degraded: which nodes, what they have in common",
        "look for one cause first: network, power, cooling, a driver or a policy that was just rolled out",
        "gpuwarden fleet uncordon NODE gives back what is well; it needs nobody's leave, storm or not",
    ),
    "limits": (
        "gpuwarden doctor: does the driver still take memory limits?",
        "gpuwarden explain INCIDENT: which tenant is guarded by the reactive engine alone",
        "look at the driver's version and at what else sets limits there",
    ),
}
"""For the rules of this program; a class of fault has its own (``policy.fault.steps``)."""

TOPIC_OF_RULE: Mapping[str, Topic] = {
    "ecc": Topic.MEMORY_UNCORRECTABLE,
    "remap": Topic.REMAP_PENDING,
    "retired": Topic.REMAP_PENDING,
    "nvlink": Topic.NVLINK,
    "pcie": Topic.PCIE,
    "throttle": Topic.POWER_OR_HEAT,
    "thermal": Topic.POWER_OR_HEAT,
    "power": Topic.POWER_OR_HEAT,
    "fabric": Topic.FABRIC,
    "recovery": Topic.RECOVERY_ADVISED,
    "inforom": Topic.INFOROM,
    "count": Topic.LOST,
    "mismatch": Topic.SOFTWARE,
    "dstate": Topic.DRIVER_HUNG,
    "zombie": Topic.MEMORY_HELD,
    "fault": Topic.UNCLASSIFIED,
}
"""Rules of what is polled, and the class whose steps are theirs."""

OTHERWISE: Steps = (
    "gpuwarden status: is all else well?",
    "gpuwarden explain INCIDENT: what happened, what was done, what to do next",
    "gpuwarden doctor: what is wrong with this host",
)


def first_steps(fault: str, rule: str, incident: str, pci: str = "") -> Steps:
    """What to do first, by the class of the fault, else by the rule. ``INCIDENT`` in them is its id."""
    topic = Topic(fault) if fault in _TOPICS else Topic.NONE
    if topic is Topic.NONE:
        topic = TOPIC_OF_RULE.get(rule, Topic.NONE)
    if topic is not Topic.NONE:
        a, b, c = steps.first_steps(topic, pci or None)
    else:
        a, b, c = BY_RULE.get(rule, OTHERWISE)
    return _named(a, incident), _named(b, incident), _named(c, incident)


def _named(line: str, incident: str) -> str:
    """The class's own lines say the command alone."""
    named = line.replace("INCIDENT", incident)
    return named.replace("gpuwarden explain:", f"gpuwarden explain {incident}:")
