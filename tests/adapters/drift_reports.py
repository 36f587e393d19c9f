"""A small report with everything in it that can be odd."""

from __future__ import annotations

from gpuwarden.model.drift_report import (
    DriftReport,
    FeaturePoint,
    FeatureTrack,
    JointPoint,
    KpiLag,
    KpiTrack,
    QualityPoint,
    QualityTrack,
)

EVIL = "<script>$x_1^{2$ & \x1b[31m\u202e"


def report() -> DriftReport:
    """A name that is markup and half a formula, windows without values, a KPI with holes."""
    calm = FeaturePoint(mean=10.0, psi=0.01, p_value=0.5, missing_share=0.0)
    return DriftReport(
        title=f"Report of {EVIL}",
        windows=tuple(f"w{n}" for n in range(12)),
        axis="rows so far",
        window_rows=1000,
        rows=12_000,
        level=1e-6,
        material_psi=0.1,
        material_sigmas=0.25,
        features=(
            FeatureTrack(
                feature=EVIL,
                points=(calm,) * 8
                + (FeaturePoint(mean=14.0, psi=0.9, p_value=0.0, is_drift=True),) * 3
                + (FeaturePoint(missing_share=1.0, psi=6.0, p_value=0.0, is_drift=True),),
                was_mean=10.0,
                was_std=4.0,
            ),
            FeatureTrack(feature="site", points=(FeaturePoint(psi=0.0, p_value=1.0),) * 12),
            FeatureTrack(feature="same", points=(calm,) * 12, was_mean=10.0, was_std=0.0),
        ),
        joint=(JointPoint(),) * 10 + (JointPoint(accuracy=0.7, p_value=1e-30, is_drift=True),) * 2,
        joint_needed=0.55,
        quality=QualityTrack(
            points=(QualityPoint(labels=0),)
            + (QualityPoint(labels=100, accuracy=0.9, low=0.83, high=0.95),) * 11,
            baseline=0.95,
            verdict_window=9,
        ),
        kpis=(
            KpiTrack(
                metric="accuracy",
                kpi=EVIL,
                metric_values=(0.9, None, 0.8),
                kpi_values=(1.0, 2.0, None),
                lags=(
                    KpiLag(lag=0, slope=1.0, low=0.5, high=1.5, q=0.001, is_significant=True),
                    KpiLag(lag=1),
                ),
                told=f"{EVIL} rises with accuracy",
            ),
        ),
        summary=(f"{EVIL} has drifted.",),
        remarks=("the last 12 rows make no window",),
    )
