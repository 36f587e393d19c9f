"""The "May import" table of the house, as data."""

from __future__ import annotations

from dataclasses import dataclass

PACKAGE = "gpuwarden"
NUMERIC = frozenset({"numpy", "scipy", "pandas", "river"})
SKETCHES = frozenset({"ddsketch", "datasketches"})

# Standard library that neither reads the world nor the time: all that pure code may use of it.
PURE_STDLIB = frozenset(
    [
        "__future__",
        "abc",
        "array",
        "base64",
        "binascii",
        "bisect",
        "collections",
        "copy",
        "dataclasses",
        "decimal",
        "enum",
        "fnmatch",
        "fractions",
        "functools",
        "hashlib",
        "heapq",
        "ipaddress",
        "itertools",
        "json",
        "math",
        "operator",
        "re",
        "statistics",
        "string",
        "textwrap",
        "types",
        "typing",
    ]
)
ALL = frozenset({"*"})
NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """What the modules under one dotted prefix may import."""

    own: frozenset[str]  # layers of this package, beside itself; {"*"} is everything
    third: frozenset[str] = ALL  # third-party packages; {"*"} is everything that is not NUMERIC
    is_pure: bool = False  # PURE_STDLIB only, and no IMPURE_CALLS


# The "May import" table of the house. `errors` are the words every shell module speaks; `clock` and `log`
# are what pure code does without. node and aggregator read `config` because a loop is handed its settings.
LAYERS: dict[str, Layer] = {
    "": Layer(own=NOTHING, third=NOTHING, is_pure=True),  # gpuwarden/__init__.py: a version
    "__main__": Layer(own=ALL),
    "cli": Layer(own=ALL),
    "commands": Layer(own=ALL),  # the verbs: the CLI in more than one file
    "wiring": Layer(own=ALL),
    "reload": Layer(own=ALL),  # a part of wiring
    "wiring_disk": Layer(own=ALL),  # a part of wiring
    "fleet_wiring": Layer(own=ALL),  # a part of wiring
    "fleet_entry": Layer(own=ALL),  # a part of wiring
    "services_wiring": Layer(own=ALL),  # a part of wiring
    "wiring_sources": Layer(own=ALL),  # a part of wiring
    "node.wiring": Layer(own=ALL),
    "aggregator.wiring": Layer(own=ALL),
    "aggregator.opening": Layer(own=ALL),  # a part of wiring
    "aggregator.own": Layer(own=ALL),  # a part of wiring
    "aggregator.reloading": Layer(own=ALL),  # a part of wiring
    "aggregator.company": Layer(own=ALL),  # a part of wiring
    "aggregator.doors": Layer(own=ALL),  # a part of wiring
    "aggregator.rollout_parts": Layer(own=ALL),  # a part of wiring
    "aggregator.drift_follow": Layer(own=ALL),  # a part of wiring
    "aggregator.paging": Layer(own=ALL),  # a part of wiring
    "aggregator.copies": Layer(own=ALL),  # a part of wiring
    "aggregator.expiry": Layer(own=ALL),  # a part of wiring
    "aggregator.handed": Layer(own=ALL),  # a part of wiring
    "aggregator.reign": Layer(own=ALL),  # a part of wiring
    "aggregator.store_log": Layer(own=ALL),  # a part of wiring
    "model": Layer(own=NOTHING, third=NOTHING, is_pure=True),
    "errors": Layer(own=NOTHING, third=NOTHING, is_pure=True),
    "clock": Layer(own=NOTHING, third=NOTHING),
    "interpreter": Layer(own=NOTHING, third=NOTHING),
    "log": Layer(own=frozenset({"errors", "log_journal"})),
    "log_journal": Layer(own=NOTHING, third=NOTHING),  # a part of log
    "ports": Layer(
        own=frozenset({"model", "ports_host", "ports_oncall", "ports_operator"}), third=NOTHING
    ),
    "ports_fleet": Layer(own=frozenset({"model"}), third=NOTHING),
    "ports_evaluation": Layer(own=frozenset({"model"}), third=NOTHING),
    "ports_operator": Layer(own=frozenset({"model"}), third=NOTHING),
    "ports_host": Layer(own=frozenset({"model"}), third=NOTHING),
    "ports_oncall": Layer(own=frozenset({"model", "config_oncall"}), third=NOTHING),
    "config": Layer(
        own=frozenset(
            {
                "model",
                "errors",
                "config_types",
                "config_addresses",
                "config_cordon",
                "config_fleet",
                "config_guardrails",
                "config_health",
                "config_oncall",
                "config_placement",
                "config_rollback",
                "config_rules",
                "config_services",
            }
        )
    ),
    "config_rollback": Layer(own=frozenset({"config_types"})),
    "config_ramp": Layer(own=frozenset({"config_types"})),
    "config_retrain": Layer(own=frozenset({"config_types", "config_addresses", "config_oncall"})),
    "config_fleet": Layer(own=frozenset({"config_types", "config_addresses"})),
    "config_aggregator": Layer(
        own=frozenset(
            {
                *("config_types", "config_addresses", "config_oncall"),
                *("config_drift", "config_evaluation", "config_guardrails", "config_ramp"),
                *("config_anomaly", "config_retrain"),
            }
        )
    ),
    "config_anomaly": Layer(own=frozenset({"config_types"})),
    "config_drift": Layer(own=frozenset({"config_types"})),
    "config_evaluation": Layer(own=frozenset({"config_types", "config_guardrails"})),
    "config_cordon": Layer(own=frozenset({"config_types"})),
    "config_oncall": Layer(own=frozenset({"config_types", "config_addresses"})),
    "config_placement": Layer(own=frozenset({"config_types"})),
    "config_rules": Layer(own=NOTHING),
    "config_guardrails": Layer(own=frozenset({"config_types", "evaluate.fast", "model"})),
    "config_services": Layer(own=frozenset({"config_types", "config_addresses", "evaluate.fast"})),
    "config_health": Layer(own=frozenset({"config_types"})),
    "config_addresses": Layer(own=frozenset({"config_types"})),
    "config_types": Layer(own=frozenset({"model", "errors"})),
    "config_files": Layer(
        own=frozenset(
            {
                "model",
                "errors",
                "config",
                "config_types",
                "config_faults",
                "config_policy",
                "toml_places",
            }
        )
    ),
    "config_policy": Layer(
        own=frozenset({"model", "errors", "config", "config_faults", "config_rules"})
    ),
    "config_faults": Layer(
        own=frozenset({"model", "errors", "config", "config_types", "toml_places"})
    ),
    "toml_places": Layer(own=frozenset({"errors"})),
    "policy": Layer(
        own=frozenset(
            {
                "model",
                "config",
                "config_fleet",
                "config_health",
                "config_services",
                "config_types",
                "config_oncall",
                "evaluate.fast",
            }
        ),
        third=NOTHING,
        is_pure=True,
    ),
    "policy.fleet": Layer(
        own=frozenset(
            {
                "model",
                "config",
                "config_aggregator",
                "config_ramp",
                "config_types",
                "policy",
                "evaluate",
                "evaluate.fast",
            }
        ),
        third=NUMERIC | SKETCHES,
        is_pure=True,
    ),
    "evaluate": Layer(
        own=frozenset({"model", "evaluate.fast", "evaluate.quality.sampling"}),
        third=NUMERIC | SKETCHES,
        is_pure=True,
    ),
    # What a node needs to pick predictions for people: nothing but the standard library.
    "evaluate.quality.sampling": Layer(own=NOTHING, third=NOTHING, is_pure=True),
    "evaluate.quality.picking": Layer(
        own=frozenset({"evaluate.quality.sampling"}), third=NOTHING, is_pure=True
    ),
    "evaluate.fast": Layer(own=frozenset({"model"}), third=frozenset({"ddsketch"}), is_pure=True),
    "wire": Layer(own=frozenset({"model", "errors"})),
    "client": Layer(own=frozenset({"wire"})),
    "adapters": Layer(
        own=frozenset(
            {
                "ports_evaluation",
                "evaluate.fast",
                "evaluate.quality.picking",
                "evaluate.quality.sampling",
                "ports",
                "ports_fleet",
                "ports_host",
                "ports_oncall",
                "ports_operator",
                "model",
                "config",
                "config_cordon",
                "config_fleet",
                "config_rollback",
                "config_services",
                "config_types",
                "config_oncall",
                "config_retrain",
                "wire",
                "errors",
                "clock",
                "interpreter",
                "log",
            }
        )
    ),
    "sim": Layer(
        own=frozenset(
            {
                "sim.fleet",  # its verb is one of simulate's
                "sim.rollout",  # likewise
                "sim.orientation",  # so is this
                "sim.drift",  # and this
                "ports",
                "ports_host",
                "model",
                "config",
                "config_services",
                "config_types",
                "wire",
                "errors",
                "clock",
                "interpreter",
                "log",
            }
        )
    ),
    # Generated images through the whole check: files, reader, judge.
    "sim.orientation": Layer(own=ALL, third=frozenset({"click", "numpy", "pydicom", "rich"})),
    # Nodes of a simulated fleet are the agent's own parts on worlds in memory.
    "sim.fleet": Layer(own=ALL),
    "sim.rollout": Layer(own=ALL),  # plays the aggregator's own parts
    "sim.drift": Layer(own=ALL),  # likewise, and holds the agent's beside them
    "node": Layer(
        own=frozenset(
            {
                "ports_evaluation",
                "evaluate.fast",
                "policy",
                "ports",
                "ports_oncall",
                "ports_operator",
                "model",
                "wire",
                "config",
                "config_fleet",
                "config_types",
                "config_oncall",
                "errors",
                "clock",
                "log",
            }
        )
    ),
    "aggregator": Layer(
        own=frozenset(
            {
                "ports_evaluation",
                "evaluate.fast",
                "evaluate",
                "evaluate.quality.sampling",
                "policy",
                "policy.fleet",
                "ports",
                "ports_oncall",
                "model",
                "wire",
                "config",
                "config_aggregator",
                "config_anomaly",
                "config_drift",
                "config_evaluation",
                "config_guardrails",
                "config_policy",
                "config_ramp",
                "config_retrain",
                "config_types",
                "errors",
                "clock",
                "log",
            }
        )
    ),
}


def layer_of(module: str) -> str | None:
    """The longest entry of LAYERS that holds this module; None when the table does not know it."""
    parts = module.split(".") if module else []
    for length in range(len(parts), 0, -1):
        if (key := ".".join(parts[:length])) in LAYERS:
            return key
    return "" if not module else None
