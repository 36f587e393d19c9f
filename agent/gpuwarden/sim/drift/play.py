"""One run: calm, shift, verdict, a closer look, people, the loss of accuracy, training asked for once, and a kill."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpuwarden.errors import Unavailable
from gpuwarden.sim.drift.scene import ACCURACY_LIMIT, SERVICE, DriftScene
from gpuwarden.sim.drift.verdict import Seen, missed

PER_S = 200.0
CALM_ROWS, CALM_LABELLED = 5000, 0.04
STEP_ROWS = 1000
SHIFT = 1.0
"""Standard deviations, of two of five inputs."""
VERDICT_S = 300.0
"""The judge speaks once a minute, and of whole windows; a machine that is busy takes longer."""
CLOSER_STEPS = 7
CALM_STEPS = 8
COUNTED_S = 90.0
AFTER_KILL_S = 25.0
WRONG_SHARE = 0.05
"""Of one of the two reviewers' answers."""
GUARDRAIL = "accuracy-of-labels"


def play(seed: int, *, is_shifted: bool = True) -> dict[str, Any]:
    """Plain data; ``Unavailable`` where the scene could not be set."""
    begun = time.monotonic()
    with DriftScene(seed) as scene:
        seen = Seen()
        scene.profile()
        scene.answer(CALM_ROWS, PER_S, 0.0, CALM_LABELLED)
        seen.accuracy_before = scene.until(lambda: _accuracy(scene)[0])
        _shift(scene, seen, is_shifted=is_shifted)
        seen.calls_before_labels = len(scene.receiver.calls())
        _people(scene, seen)
        _follow(scene, seen, is_shifted=is_shifted)
        return _told(seen, seed, time.monotonic() - begun, is_shifted=is_shifted)


def _shift(scene: DriftScene, seen: Seen, *, is_shifted: bool) -> None:
    """Until the verdict, and a while longer for the closer look."""
    if not is_shifted:
        for _ in range(CALM_STEPS):
            scene.answer(STEP_ROWS, PER_S, 0.0)
        seen.drifted = scene.drifted()[0]
        return
    before = time.time()
    calm, _ = scene.exported()
    seen.picked_before_per_min = _per_minute(calm, scene.begun_wall, before)
    end = time.monotonic() + VERDICT_S
    while time.monotonic() < end and not seen.drifted:
        scene.answer(STEP_ROWS, PER_S, SHIFT)
        seen.drifted, seen.verdict = scene.drifted()
    if not seen.drifted:
        return
    seen.verdict_s = time.time() - before
    since = time.time()
    for _ in range(CLOSER_STEPS):
        scene.answer(STEP_ROWS, PER_S, SHIFT)
    until = time.time()
    time.sleep(3.0)  # what was picked is on its way
    found, _ = scene.exported()
    seen.picked_after_per_min = _per_minute(found, since, until)


def _per_minute(lines: Sequence[dict[str, Any]], since: float, until: float) -> float:
    many: int = sum(since <= each["at_wall"] < until for each in lines)
    return 60.0 * many / max(1.0, until - since)


def _people(scene: DriftScene, seen: Seen) -> None:
    """Two of them: one looks at everything, the other at every second one, and errs at times."""
    lines, _ = scene.exported()
    seen.exported = len(lines)
    seen.segments = frozenset(each["segment"] for each in lines)
    seen.queue_bytes_max = sum(len(json.dumps(each)) + 1 for each in lines)
    chance = random.Random(f"people/{scene.seed}")
    filled = []
    for place, each in enumerate(lines):
        truth = scene.truth(each["id"])
        filled.append({**each, "label": truth, "reviewer": "ann"})
        if place % 2:
            is_wrong = chance.random() < WRONG_SHARE
            label = str(1 - int(truth)) if is_wrong else truth
            filled.append({**each, "label": label, "reviewer": "bea"})
    file = scene.folder / "filled.jsonl"
    file.write_text("".join(json.dumps(each) + "\n" for each in filled), encoding="utf-8")
    said = _imported(scene, file)
    seen.corrections = said["corrections"]
    for each in said["segments"]:
        seen.decided += each["decided"]
        seen.counted += each["counted"]
        if each["kappa"] is not None:
            seen.kappa = each["kappa"]
    seen.again = _imported(scene, file)["corrections"]


def _imported(scene: DriftScene, file: Path) -> dict[str, Any]:
    return scene.asked("service", "review", "import", str(file), "--label", "0", "--label", "1")


def _follow(scene: DriftScene, seen: Seen, *, is_shifted: bool) -> None:
    shift = SHIFT if is_shifted else 0.0
    end = time.monotonic() + COUNTED_S
    while time.monotonic() < end:
        scene.answer(STEP_ROWS, PER_S, shift)
        seen.accuracy_after, seen.is_accuracy_red = _accuracy(scene)
        if is_shifted and scene.receiver.calls() and seen.is_accuracy_red:
            break
    seen.calls = scene.receiver.calls()
    if not seen.calls:
        seen.report = scene.notes()
        return
    scene.until(lambda: any("training was asked for" in line for line in scene.notes()))
    seen.report = scene.notes()
    scene.kill_aggregator()
    end = time.monotonic() + AFTER_KILL_S
    while time.monotonic() < end:
        scene.answer(STEP_ROWS, PER_S, shift)
    if scene.until(scene.notes):
        seen.calls_after_restart = len(scene.receiver.calls())


def _accuracy(scene: DriftScene) -> tuple[float | None, bool]:
    """As the guardrail says."""
    said = scene.asked("service", "status", SERVICE)
    for each in said["verdicts"]:
        cohort = each.get("cohort", {})
        if each["guardrail"] == GUARDRAIL and not cohort.get("segment"):
            return each.get("value"), each["colour"] == "red"
    return None, False


def _told(seen: Seen, seed: int, lasted_s: float, *, is_shifted: bool) -> dict[str, Any]:
    if seen.accuracy_before is None:
        raise Unavailable("no accuracy was known before the shift")
    call = seen.calls[0] if seen.calls else {}
    return {
        "scene": "shift" if is_shifted else "none",
        "seed": seed,
        "lasted_s": round(lasted_s, 1),
        "verdict": {
            "features": sorted(seen.drifted or ()),
            "after_s": None if seen.verdict_s is None else round(seen.verdict_s, 1),
            "summary": seen.verdict,
        },
        "sampling": {
            "before_per_min": round(seen.picked_before_per_min, 1),
            "after_per_min": round(seen.picked_after_per_min, 1),
        },
        "queue": {
            "exported": seen.exported,
            "bytes": seen.queue_bytes_max,
            "segments": sorted(seen.segments),
        },
        "people": {
            "corrections": seen.corrections,
            "again": seen.again,
            "decided": seen.decided,
            "counted": seen.counted,
            "kappa": None if seen.kappa is None else round(seen.kappa, 3),
        },
        "accuracy": {
            "before": seen.accuracy_before,
            "after": seen.accuracy_after,
            "is_red": seen.is_accuracy_red,
        },
        "retrain": {
            "calls": len(seen.calls),
            "calls_after_kill": seen.calls_after_restart,
            "is_signed": call.get("is_signed"),
            "training": call.get("training"),
            "why": call.get("why"),
            "new_labels": call.get("new_labels"),
        },
        "report": list(seen.report),
        "missed": missed(seen, is_shifted=is_shifted, accuracy_limit=ACCURACY_LIMIT),
    }
