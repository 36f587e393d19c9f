"""Series of numbers as cases write them: a list, packed bits, or the recipe of a generator.

The format is that of the reference cases (format 2): ``{"encoding": "bits-base64", "runs", "n", "data"}``
holds R runs of N values 0/1, highest bit first; ``{"rng", "seed", "steps", "post"}`` draws each run from
numpy's generator of that seed, step after step, into the series that each step names.
"""

import base64
import binascii
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gpuwarden.evaluate.cases.fields import Fields, number, unfit, whole
from gpuwarden.evaluate.inputs import Floats

MOST_VALUES = 20_000_000
"""Values that one case may ask for, all runs together: 160 MB."""
MOST_STEPS = 1000
MOST_RUNS = 10_000
SERIES = "x"
"""The name of a step's series where it has no ``to``."""

Run = Mapping[str, Floats]
Generator = np.random.Generator | np.random.RandomState


def runs(value: Any, path: str, *, name: str = SERIES) -> list[Floats]:
    """Every run of the series ``name``, each with at least one value."""
    return [_named(run, name, path) for run in named_runs(value, path)]


def single(value: Any, path: str, *, name: str = SERIES) -> Floats:
    """The one run of a series, where a method takes one."""
    found = runs(value, path, name=name)
    if len(found) != 1:
        raise ValueError(f"{path}: expected one run, got {len(found)}")
    return found[0]


def pair(fields: Fields, both: str, first: str, second: str) -> tuple[Floats, Floats]:
    """Two series of one draw (``samples`` with the names ref and cur), or two inputs of those names."""
    if both in fields:
        path = f"{fields.path}.{both}"
        drawn = named_runs(fields.get(both), path)
        if len(drawn) != 1:
            raise ValueError(f"{path}: expected one run, got {len(drawn)}")
        return _named(drawn[0], first, path), _named(drawn[0], second, path)
    return (
        single(fields.get(first), f"{fields.path}.{first}"),
        single(fields.get(second), f"{fields.path}.{second}"),
    )


def named_runs(value: Any, path: str) -> list[Run]:
    """Every run with all its named series."""
    if isinstance(value, list):
        values = [number(v, f"{path}[{i}]") for i, v in enumerate(value[: MOST_VALUES + 1])]
        if len(values) > MOST_VALUES:
            raise ValueError(f"{path}: more than {MOST_VALUES} values")
        return [{SERIES: np.array(values, dtype=np.float64)}]
    fields = Fields(value, path)
    if "encoding" in fields:
        return [{SERIES: run} for run in _bits(fields)]
    if "rng" in fields:
        return _drawn(fields)
    raise ValueError(f"{path}: expected a list, an encoding or a generator")


def _named(run: Run, name: str, path: str) -> Floats:
    if name not in run:
        raise ValueError(f"{path}: no series named {name!r}")
    if not run[name].size:
        raise ValueError(f"{path}: the series {name!r} is empty")
    return run[name]


def _bits(fields: Fields) -> list[Floats]:
    fields.word("encoding", ("bits-base64",))
    many, n = fields.whole("runs"), fields.whole("n")
    if not 1 <= many <= MOST_RUNS or not n >= 1 or many * n > MOST_VALUES:
        raise ValueError(f"{fields.path}: expected 1 or more runs and values, {MOST_VALUES} in all")
    data = fields.get("data")
    if not isinstance(data, str):
        raise unfit(f"{fields.path}.data", "base64", data)
    try:
        raw = np.frombuffer(base64.b64decode(data, validate=True), dtype=np.uint8)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"{fields.path}.data: not base64: {error}") from error
    if raw.size * 8 < many * n:
        raise ValueError(f"{fields.path}.data: {raw.size * 8} bits, {many * n} are needed")
    bits = np.unpackbits(raw, count=many * n)
    return list(bits.reshape(many, n).astype(np.float64))


def _drawn(fields: Fields) -> list[Run]:
    kind = fields.word("rng", ("numpy.default_rng", "numpy.RandomState"))
    make = np.random.default_rng if kind == "numpy.default_rng" else np.random.RandomState
    given = fields.get("seed")
    listed = given if isinstance(given, list) else [given]
    seeds = [whole(seed, f"{fields.path}.seed") for seed in listed[: MOST_RUNS + 1]]
    limit = 2**53 if kind == "numpy.default_rng" else 2**32 - 1
    if not 1 <= len(seeds) <= MOST_RUNS or any(not 0 <= seed <= limit for seed in seeds):
        raise ValueError(f"{fields.path}.seed: expected 1 to {MOST_RUNS} seeds of 0 to {limit}")
    steps = [Fields(s, f"{fields.path}.steps[{i}]") for i, s in enumerate(fields.items("steps"))]
    if not 1 <= len(steps) <= MOST_STEPS:
        raise ValueError(f"{fields.path}.steps: expected 1 to {MOST_STEPS} steps")
    asked = sum(_length(step) for step in steps)
    if asked * len(seeds) > MOST_VALUES:
        raise ValueError(f"{fields.path}: asks for more than {MOST_VALUES} values")
    changes = fields.items("post") if "post" in fields else []
    posts = [Fields(p, f"{fields.path}.post[{i}]") for i, p in enumerate(changes)]
    return [_run(make(seed), steps, posts) for seed in seeds]


def _length(step: Fields) -> int:
    n = step.whole("n")
    if n < 0:
        raise ValueError(f"{step.path}.n: expected 0 or more, got {n}")
    return n


def _run(r: Generator, steps: list[Fields], posts: list[Fields]) -> Run:
    pieces: dict[str, list[Floats]] = {}
    for step in steps:
        dist = step.word("dist", tuple(DISTRIBUTIONS))
        try:
            with np.errstate(over="ignore"):
                values = np.asarray(DISTRIBUTIONS[dist](r, step, _length(step)), dtype=np.float64)
        except (TypeError, AttributeError) as error:
            raise ValueError(f"{step.path}: {dist} cannot be drawn here: {error}") from error
        except ValueError as error:
            raise ValueError(f"{step.path}: {error}") from error
        if not np.isfinite(values).all():
            raise ValueError(f"{step.path}: draws values that a float cannot hold")
        pieces.setdefault(_to(step), []).append(values)
    run = {name: np.concatenate(parts) for name, parts in pieces.items()}
    for post in posts:
        _change(run, post)
    return run


def _to(fields: Fields) -> str:
    name = fields.get("to") if "to" in fields else SERIES
    if not isinstance(name, str):
        raise unfit(f"{fields.path}.to", "a name", name)
    return name


def _change(run: dict[str, Floats], post: Fields) -> None:
    name, op = _to(post), post.word("op", ("scale", "shift", "positive"))
    if name not in run:
        raise ValueError(f"{post.path}: no series named {name!r}")
    if op == "positive":
        run[name] = (run[name] > 0).astype(np.float64)
        return
    start = post.whole("start")
    if start < 0:
        raise ValueError(f"{post.path}.start: expected 0 or more, got {start}")
    if op == "scale":
        run[name][start:] *= post.number("factor")
    else:
        run[name][start:] += post.number("by")
    if not np.isfinite(run[name]).all():
        raise ValueError(f"{post.path}: gives values that a float cannot hold")


def _bernoulli(r: Generator, step: Fields, n: int) -> Any:
    return r.random(n) < step.number("p")


def _sigmoid(r: Generator, step: Fields, n: int) -> Any:
    p0, p1 = step.number("p0"), step.number("p1")
    center, width = step.number("center"), step.number("width")
    if width <= 0:
        raise ValueError(f"width: expected a number above 0, got {width:g}")
    exponent = np.minimum(-4 * (np.arange(n) - center) / width, 700.0)
    return r.random(n) < p0 + (p1 - p0) / (1 + np.exp(exponent))


def _randint(r: Generator, step: Fields, n: int) -> Any:
    if not isinstance(r, np.random.RandomState):
        raise unfit("rng", "numpy.RandomState for randint", type(r).__name__)
    return r.randint(step.whole("low"), step.whole("high"), size=n)


def _spread(step: Fields, key: str) -> float:
    value = step.number(key)
    if not 0 <= value < math.inf:
        raise ValueError(f"{key}: expected 0 or more, got {value:g}")
    return value


DISTRIBUTIONS: Mapping[str, Callable[[Any, Fields, int], Any]] = {
    "normal": lambda r, s, n: r.normal(s.number("loc"), _spread(s, "scale"), n),
    "lognormal": lambda r, s, n: r.lognormal(s.number("mean"), _spread(s, "sigma"), n),
    "bernoulli": _bernoulli,
    "binomial": lambda r, s, n: r.binomial(s.whole("trials"), s.number("p"), n),
    "randint": _randint,
    "sigmoid_bernoulli": _sigmoid,
    "constant": lambda _, s, n: np.full(n, s.number("value")),
}
"""Each draws ``n`` values in one call, so that the generator stands where the format says it does."""
