"""Methods on sketches and percentiles of a fleet."""

from dataclasses import asdict
from typing import Any

import numpy as np

from gpuwarden.evaluate.cases import series
from gpuwarden.evaluate.cases.fields import Fields
from gpuwarden.evaluate.sketch import fleet_percentile, kll_error, log_mapping, merged

Answer = dict[str, Any]


def ddsketch_log_mapping(given: Fields, params: Fields) -> Answer:
    accuracy = params.number("relative_accuracy")
    return asdict(log_mapping.mapped(given.numbers("values"), relative_accuracy=accuracy))


def ddsketch_merge(given: Fields, params: Fields) -> Answer:
    return asdict(
        merged.ddsketches(
            series.single(given.get("values"), f"{given.path}.values"),
            nodes=given.whole("nodes"),
            relative_accuracy=params.number("relative_accuracy"),
            q=params.numbers("q"),
        )
    )


def kll_merge(given: Fields, params: Fields) -> Answer:
    return {
        "ranks": merged.kll_ranks(
            series.single(given.get("values"), f"{given.path}.values"),
            nodes=given.whole("nodes"),
            k=params.whole("k"),
            q=params.numbers("q"),
        )
    }


def kll_rank_error(given: Fields, params: Fields) -> Answer:
    return asdict(kll_error.rank_error(params.whole("k")))


def ks_sketches(given: Fields, params: Fields) -> Answer:
    ref, cur = series.pair(given, "samples", "ref", "cur")
    return asdict(
        kll_error.ks_from_sketches(ref, cur, k=params.whole("k"), alpha=params.number("alpha"))
    )


def percentile(given: Fields, params: Fields) -> Answer:
    good, bad = series.pair(given, "nodes", "good", "bad")
    nodes = given.whole("good_nodes")
    if not 1 <= nodes <= good.size:
        raise ValueError(f"{given.path}.good_nodes: expected 1 to {good.size}, got {nodes}")
    found = fleet_percentile.fleet_percentile(
        [*np.array_split(good, nodes), bad], percentile=params.number("percentile")
    )
    return {"fleet_p99": found.fleet, "mean_of_node_p99": found.mean_of_nodes}
