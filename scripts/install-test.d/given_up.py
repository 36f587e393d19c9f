"""A unit that systemd gives up, and whether people hear of it: through the failure unit, without the daemon."""

from __future__ import annotations

import json
from pathlib import Path

from place import write
from steps import Failed, must
from unit_life import UnitLife

RECEIVER = Path(__file__).with_name("receiver.py")
PORT = 9099
TAKEN = "/run/taken"
IMPATIENT = "[Unit]\nStartLimitBurst=3\n[Service]\nRestartSec=100ms\n"
"""The unit as it is shipped, but for how soon a test sees it given up."""
SINK = f"""
[[oncall.webhook]]
name = "pager"
url = "http://127.0.0.1:{PORT}/page"
"""


def given_up(life: UnitLife) -> None:
    with life.steps.step(
        life.place.name, f"{life.package}: given up by systemd: a webhook hears of it"
    ) as notes:
        write(life.place, "/root/receiver.py", RECEIVER.read_text(encoding="utf-8"))
        life.do(
            f"rm -f {TAKEN}; systemd-run --quiet --unit=receiver /usr/lib/{life.package}/python/bin/python3.13"
            f" -I /root/receiver.py {PORT} {TAKEN}"
        )
        write(life.place, f"/etc/gpuwarden/{life.drop_ins}/70-oncall.toml", SINK)
        write(life.place, f"/run/systemd/system/{life.unit}.d/impatient.conf", IMPATIENT)
        life.do(f"systemctl daemon-reload && systemctl restart {life.unit}")
        _crash(life)
        page = life.until("a page", lambda: _page(life))
        must(life.unit in json.dumps(page), f"the page names no unit: {page}")
        life.until(
            "the failure unit is done",
            lambda: life.shown("ActiveState", _failure(life)) == "inactive",
        )
        must(life.shown("Result", _failure(life)) == "success", "the failure unit failed")
        notes.append(str(page.get("summary") or page)[:120])
        life.do(
            f"systemctl stop receiver; rm /etc/gpuwarden/{life.drop_ins}/70-oncall.toml"
            f" /run/systemd/system/{life.unit}.d/impatient.conf; systemctl daemon-reload;"
            f" systemctl reset-failed {life.unit}; systemctl start {life.unit}"
        )
        life.until("it is active again", life.is_active)


def _failure(life: UnitLife) -> str:
    return life.unit.replace(".service", "-failed.service")


def _crash(life: UnitLife) -> None:
    """Killed as often as it is started, until systemd starts it no more."""
    for _ in range(20):
        state = life.until(
            "it is up, or given up",
            lambda: (
                life.shown("ActiveState")
                if life.shown("ActiveState") in ("active", "failed")
                else ""
            ),
        )
        if state == "failed":
            return
        life.do(f"kill -9 {life.pid()} || :")
    raise Failed("systemd never gave it up")


def _page(life: UnitLife) -> dict[str, object]:
    said = life.place.do(f"cat {TAKEN} 2>/dev/null").out.strip().splitlines()
    pages = [json.loads(line) for line in said]
    return next((page for page in pages if life.unit in json.dumps(page)), {})
