"""Runs the stages one after another, each in a process of its own, and writes one JSON object."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import stages
from device import NoDevice, open_device

NO_GPU = 3


def host(device: int) -> dict[str, Any]:
    """What this was measured on."""
    with open_device(device) as gpu:
        about: dict[str, Any] = {
            "driver": gpu.driver_version,
            "nvml": gpu.nvml_version,
            "device": gpu.name,
            "total_bytes": gpu.memory().total,
            "devices": gpu.count,
        }
    about |= {
        "kernel": platform.release(),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "is_root": os.geteuid() == 0,
        "is_cgroup_v2": Path("/sys/fs/cgroup/cgroup.controllers").exists(),
    }
    return about


def run_stage(name: str, device: int, timeout_s: float) -> dict[str, Any]:
    """One stage in its own process; past its time it is told to end, and left if it does not."""
    began = time.monotonic()
    command = [sys.executable, __file__, "--stage", name, "--device", str(device)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, errors = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.terminate()  # never killed: a killed NVML client has frozen GPUs
        return {"ok": False, "error": f"not done within {timeout_s:.0f} s; left behind"}
    seconds = time.monotonic() - began
    try:
        result = json.loads(out.splitlines()[-1])
    except (IndexError, ValueError):
        return {
            "ok": False,
            "seconds": seconds,
            "error": errors.strip()[-2000:] or "it said nothing",
        }
    return {**result, "seconds": round(seconds, 2)}


def one_stage(name: str, device: int) -> int:
    """Inside the process of a stage."""
    try:
        result = {"ok": True, "result": stages.STAGES[name](device)}
    except stages.NotHere as reason:
        result = {"ok": True, "not_here": str(reason)}
    except (AssertionError, OSError, RuntimeError) as error:
        result = {"ok": False, "error": f"{type(error).__name__}: {error}"}
    print(json.dumps(result))
    return 0


def summary(report: dict[str, Any]) -> str:
    lines = [f"{report['host']['device']}, driver {report['host']['driver']}"]
    for name, stage in report["stages"].items():
        word = "ok" if stage["ok"] else "FAILED"
        if "not_here" in stage:
            word = f"not here: {stage['not_here']}"
        lines.append(f"{name:<10} {stage.get('seconds', 0):>6.1f} s  {word}")
        if not stage["ok"]:
            lines.append(f"    {stage['error'].splitlines()[-1]}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/gpu-check")
    parser.add_argument("out", nargs="?")
    parser.add_argument("--only")
    parser.add_argument("--device", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        return one_stage(options.stage, options.device)
    if not options.out:
        parser.error("the name of the JSON file is missing")
    names = options.only.split(",") if options.only else list(stages.STAGES)
    if unknown := [name for name in names if name not in stages.STAGES]:
        parser.error(f"no such stage: {', '.join(unknown)} (known: {', '.join(stages.STAGES)})")
    try:
        report: dict[str, Any] = {"host": host(options.device), "stages": {}}
    except NoDevice as reason:
        print(f"scripts/gpu-check: {reason}", file=sys.stderr)
        return NO_GPU
    end = time.monotonic() + options.minutes * 60
    for place, name in enumerate(names):
        left_s = end - time.monotonic()
        share_s = max(10.0, left_s - 10.0 * (len(names) - place - 1))
        report["stages"][name] = run_stage(name, options.device, share_s)
        Path(options.out).write_text(json.dumps(report, indent=1) + "\n")
    print(summary(report))
    return 0 if all(stage["ok"] for stage in report["stages"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
