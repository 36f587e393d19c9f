"""What an aggregator may say of a service and its drift, for the page that shows it."""

from __future__ import annotations

import math

from gpuwarden.wire.v1 import drift_pb2, evaluation_pb2

WALL = 1_764_250_000.0
SCRIPT = "<script>alert(1)</script>"


def cohort(service: str, version: str = "", segment: str = "") -> evaluation_pb2.Cohort:
    return evaluation_pb2.Cohort(service=service, version=version, segment=segment)


def report(
    name: str = "chest-xray", segment: str = "old-scanner", node: str = "gpu-07"
) -> evaluation_pb2.ServiceReportResponse:
    """One guardrail is red, one green, and of one there is no value."""
    pb = evaluation_pb2
    red = pb.GuardrailVerdict(
        guardrail="latency-p99", cohort=cohort(name, "v2"), colour="red", since_wall=WALL - 1260,
        wall=WALL, value=2.317, limit=1.0, severity="critical",
        summary="latency-p99 of version v2 is 2.32 s, limit 1 s",
    )  # fmt: skip
    green = pb.GuardrailVerdict(
        guardrail="error-rate", cohort=cohort(name), colour="green", since_wall=WALL - 90_000,
        wall=WALL, value=0.0021, limit=0.01,
    )  # fmt: skip
    unknown = pb.GuardrailVerdict(
        guardrail="accuracy", cohort=cohort(name, "v2", segment), colour="unknown",
        since_wall=WALL - 90_000, wall=WALL, missing="no labels were told",
    )  # fmt: skip
    cause = pb.GpuCause(
        kind="throttle", summary="GPU 3 ran hot and was slowed for 19 minutes", node=node,
        device="GPU-5f1d", incident="inc-0042", tenant=f"{name}.service",
    )  # fmt: skip
    return pb.ServiceReportResponse(
        schema_version=1,
        standing=pb.ServiceStanding(
            service=name, colour="red", why="latency-p99 is red", since_wall=WALL - 1260, age_s=8.0,
            versions=["v1", "v2"], nodes=3, red=1, green=1, unknown=1,
        ),
        verdicts=[
            pb.VerdictReport(verdict=green),
            pb.VerdictReport(
                verdict=red, cause=cause, said_by=[node],
                narrative=f"latency-p99 of version v2 is 2.32 s since 21 min, limit 1 s; worst {node}; GPU 3 there ran hot",
                nodes=[
                    pb.NodePart(node=node, value=4.81, requests=1210, is_bad=True),
                    pb.NodePart(node="gpu-08", value=0.61, requests=1630),
                    pb.NodePart(node="gpu-09", requests=0),
                ],
            ),
            pb.VerdictReport(verdict=unknown),
        ],
        wall=WALL,
        notes=["full training was asked for (HTTP 200)", "a rollout of v2 waits at 5 %: data-drift"],
        numbers=[
            pb.SeriesNumber(cohort=cohort(name, version), what=what, value=value)
            for version, told in (("v1", (41_000.0, 0.962)), ("v2", (2_840.0, 0.911)))
            for what, value in zip(("requests", "accuracy"), told, strict=True)
        ],
    )  # fmt: skip


def drift(
    name: str = "chest-xray", segment: str = "old-scanner", feature: str = "brightness"
) -> drift_pb2.ServiceDriftResponse:
    """A number, a category and a number with far outliers have drifted; errors, too; one feature has no p."""
    pb = drift_pb2
    levels = [n / 20 for n in range(21)]
    bell = [math.log((p + 0.02) / (1.02 - p)) for p in levels]
    features = [
        pb.FeatureDrift(
            feature=feature, state="drift", since_wall=WALL - 5400, rows=1000, p_value=3e-19, psi=0.61,
            js_distance=0.27, wasserstein_norm=0.83, mean=127.4, was_mean=98.2,
            shape=pb.FeatureShape(profile=[98 + 14 * z for z in bell], live=[127 + 19 * z for z in bell]),
        ),
        pb.FeatureDrift(
            feature="site", state="drift", since_wall=WALL - 600, rows=1000, p_value=2e-8, psi=0.22,
            js_distance=0.16, new_share=0.11,
            shape=pb.FeatureShape(names=[
                pb.NameShare(name=n, profile=was, live=now) for n, was, now in (
                    ("north", 0.55, 0.31), ("south", 0.30, 0.33), ("west, where names are longer than a label has room", 0.14, 0.25),
                    ("mobile-unit-4", 0.0, 0.11), (SCRIPT, 0.01, 0.0), ("", 0.002, 0.001),
                )
            ]),
        ),
        pb.FeatureDrift(
            feature="dose", state="drift", since_wall=WALL - 600, rows=1000, p_value=4e-5, psi=0.14,
            wasserstein_norm=0.31, mean=3.4, was_mean=2.9,
            shape=pb.FeatureShape(profile=[3 + z / 2 for z in bell], live=[3.4 + z / 2 for z in bell[:-1]] + [9e6]),
        ),
        pb.FeatureDrift(feature="age", state="stable", since_wall=WALL - 90_000, rows=1000, p_value=0.81, psi=0.01,
                        wasserstein_norm=0.02, mean=54.1, was_mean=54.0),
        pb.FeatureDrift(feature="kernel", state="not-enough-data", since_wall=WALL - 90_000, rows=212, why="212 of 1000 rows"),
        pb.FeatureDrift(feature="exposure", state="drift", since_wall=WALL - 7200, rows=1000, p_value=1e-6, psi=0.4),
    ]  # fmt: skip
    points = [
        pb.StreamPoint(begin_wall=WALL - 86_400 + 900 * n, length_s=900, labels=40 + n % 7,
                       wrong=(40 + n % 7) * (0.05 + 0.015 * math.sin(n)) + (4 if n > 70 else 0))
        for n in range(96) if n % 11
    ]  # fmt: skip
    errors = pb.StreamDrift(
        stream="errors", state="drift", since_wall=WALL - 16_000, labels=800, value=0.141, baseline=0.052,
        baseline_labels=1000, p_value=3e-7, level=1e-5, detectors=["adwin", "hddm-w"],
        version="river 0.21.2", points=points,
    )  # fmt: skip
    score = pb.StreamDrift(
        stream="score", state="stable", since_wall=WALL - 80_000, labels=300, value=4.021, baseline=4.113,
    )  # fmt: skip
    return pb.ServiceDriftResponse(
        schema_version=1,
        wall=WALL,
        reports=[
            pb.DriftReport(
                cohort=cohort(name, "v2", segment), state="drift", since_wall=WALL - 5400, wall=WALL,
                features=features, streams=[errors, score],
                summary=f"the data of version v2 segment {segment} drifted: {feature} (mean 98.2 -> 127.4, +0.83 sd)",
                proposals=["a new profile of version v2"],
            ),
            pb.DriftReport(
                cohort=cohort(name, "v1"), state="no-profile", since_wall=WALL - 90_000, wall=WALL,
                summary="no profile of version v1",
                streams=[pb.StreamDrift(stream="errors", state="not-enough-data", since_wall=WALL - 90_000,
                                        why="120 of 1000 labels for its own baseline")],
            ),
        ],
        notes=["a profile, but no live data, of version v3"],
    )  # fmt: skip
