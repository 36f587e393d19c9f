"""The settings for Prometheus and Alertmanager: as their own tools take them, and of names that are there."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "packaging" / "prometheus"
TIMEOUT_S = 60


@pytest.mark.promtool
def test_prometheus_takes_its_settings() -> None:
    done = subprocess.run(
        ["promtool", "check", "config", str(FOLDER / "prometheus.yml")],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.alertmanager
def test_alertmanager_takes_its_settings() -> None:
    done = subprocess.run(
        ["amtool", "check-config", str(FOLDER / "alertmanager.yml")],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_jobs_are_those_of_the_rules() -> None:
    settings = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))
    jobs = {job["job_name"] for job in settings["scrape_configs"]}
    rules = "".join((FOLDER / name).read_text(encoding="utf-8") for name in settings["rule_files"])
    assert {f'job="{job}"' in rules for job in jobs} == {True}
    (found,) = [job for job in settings["scrape_configs"] if job["job_name"] == "gpuwarden"]
    assert found["http_sd_configs"][0]["url"].endswith("/sd")


def test_alerts_that_are_held_back_exist() -> None:
    settings = yaml.safe_load((FOLDER / "alertmanager.yml").read_text(encoding="utf-8"))
    rules = (FOLDER / "gpuwarden.rules.yml").read_text(encoding="utf-8")
    for rule in settings["inhibit_rules"]:
        for matcher in (*rule["source_matchers"], *rule["target_matchers"]):
            for name in matcher.split('"')[1].split("|"):
                assert f"alert: {name}\n" in rules
