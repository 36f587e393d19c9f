"""The support bundle: what is in it, with and without an agent, and that no secret ever is."""

from __future__ import annotations

import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuwarden.adapters.pki.names import KEY
from gpuwarden.commands import bundle_parts
from gpuwarden.commands.bundle_parts import Collection
from gpuwarden.commands.redaction import (
    HIDDEN,
    Redactor,
    environment_names,
    hide_environment,
    is_secret,
)
from gpuwarden.config import Config
from gpuwarden.model.memory import Memory
from gpuwarden.node.journal import FileJournal
from tests import sample_view
from tests.adapters.node_socket import run_folder, serving
from tests.adapters.view_board import Board
from tests.aggregator.centre import Centre
from tests.commands.cli_run import AWAY, run

WORD = "PLANTED"
"""Every secret below holds it: one search finds whatever was left in."""


def inside(file: Path) -> dict[str, str]:
    """Files of a bundle by their name below its folder."""
    found = {}
    with tarfile.open(file) as archive:
        for entry in archive.getmembers():
            held = archive.extractfile(entry)
            assert held is not None
            found[entry.name.partition("/")[2]] = held.read().decode()
    return found


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration in which secrets stand wherever somebody may have put one."""
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "slack").write_text(f"https://hooks.example/T0/{WORD}slack/xyz\n")
    (tmp_path / "fleet").mkdir()
    (tmp_path / "fleet" / KEY).write_text(
        f"-----BEGIN PRIVATE KEY-----\n{WORD}fleet\n-----END PRIVATE KEY-----\n"
    )
    given = tmp_path / "given"
    given.mkdir()
    (given / "pd").write_text(f"{WORD}-pagerduty-key")
    (tmp_path / "hook").write_text(f"http://127.0.0.1:9/{WORD}hook\n")
    (tmp_path / "hook").chmod(0o600)
    (tmp_path / "agent.toml").write_text(
        f'''[agent]
state_dir = "{tmp_path}/state"
run_dir = "{tmp_path}/run"
metrics_listen = "127.0.0.1:1"
[docker]
host = "unix://{tmp_path}/none"
[fleet]
identity_dir = "{tmp_path}/fleet"
[oncall]
[[oncall.webhook]]
url = "file:{tmp_path}/hook"
[[oncall.pagerduty]]
url = "http://127.0.0.1:9/{WORD}-pagerduty-key"
routing_key = "credential:pd"
[[oncall.exec]]
command = ["/bin/true", "{WORD}argument",
  "-v", "{WORD}more"]
# the old one was https://alerts:{WORD}url@alerts.example/x?key={WORD}query
'''
    )
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "50-old.toml").write_text(
        f'[oncall]\n# password = "{WORD}toml"\n# smtp_password={WORD}bare\n# heartbeat_url = "https://ping.example/{WORD}path"\n# token: {WORD}colon\n'
    )
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(given))
    monkeypatch.setattr(bundle_parts, "ENVIRONMENT_FILE", tmp_path / "default")
    (tmp_path / "default").write_text(f"# {WORD}comment\nHTTPS_PROXY=http://u:{WORD}@p:1\n")
    monkeypatch.setattr(bundle_parts, "said", tool)
    monkeypatch.setattr(
        bundle_parts, "metrics_page", lambda listen: f'x{{secret="{WORD}label"}} 1\n'
    )
    return tmp_path


def tool(name: str, words: list[str]) -> str:
    """What systemd and the kernel might say on a bad day."""
    return hide_environment(
        f"{name} {' '.join(words)}\n"
        f'Environment=HF_TOKEN={WORD}a OTHER={WORD}b "QUOTED={WORD}c d {WORD}"\n'
        f"posting to http://127.0.0.1:9/{WORD}hook failed\n"
        f"Authorization: Bearer {WORD}bearer0123\n"
        f"-----BEGIN PRIVATE KEY-----\n{WORD}key\n-----END PRIVATE KEY-----\n"
        f"the key {WORD}fleet was shown\n"
        f"a line that stays\n"
    )


def planted_view() -> Any:
    """A view whose tenants say secrets in names, labels and command lines."""
    view = sample_view.view()
    evil = (
        ("command", f"python train.py {WORD}argument"),
        ("label api_key", f"{WORD}label"),
        ("image", f"https://u:{WORD}image@registry.example/x:1"),
    )
    tenants = tuple(replace(t, identity=evil) for t in view.snapshot.tenants)
    incidents = tuple(
        replace(i, evidence=(*i.evidence, *evil), summary=f"token={WORD}summary is over quota")
        for i in view.incidents
    )
    return replace(view, snapshot=replace(view.snapshot, tenants=tenants), incidents=incidents)


def test_no_secret_is_in_it_and_the_rest_is(host: Path) -> None:
    board = Board()
    board.publish(planted_view())
    target = host / "out.tar.gz"
    with run_folder() as folder, serving(folder, board):
        result = run(
            *("support-bundle", str(target), "-c", str(host / "agent.toml"), "--json"),
            *("--socket", str(folder / "gpuwarden.sock")),
        )
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["missing"] == {}
    found = inside(target)
    left = [
        (name, line) for name, text in found.items() for line in text.splitlines() if WORD in line
    ]
    assert left == []
    assert target.stat().st_mode & 0o777 == 0o600
    assert {"status.json", "doctor.json", "incidents.json", "versions.json", "metrics.txt"} <= set(
        found
    )
    assert {"config/agent.toml", "config/conf.d/50-old.toml", "config/in-force.toml"} <= set(found)
    assert {"journal.txt", "kernel.txt", "unit/show.txt", "manifest.json"} <= set(found)
    assert any(name.startswith("explain/") for name in found)
    # What is no secret stays, or nobody could be helped.
    assert "a line that stays" in found["journal.txt"]
    assert 'routing_key = "credential:pd"' in found["config/agent.toml"]
    assert f'url = "file:{host}/hook"' in found["config/agent.toml"]
    assert 'command = ["/bin/true", "(hidden)"]' in found["config/agent.toml"]
    assert f"https://ping.example/{HIDDEN}" in found["config/conf.d/50-old.toml"]
    assert f"HTTPS_PROXY={HIDDEN}" in found["config/environment"]
    assert "OTHER=(hidden)" in found["unit/show.txt"]
    assert f"python {HIDDEN}" in found["status.json"]
    assert str(sample_view.INCIDENT) in found["incidents.json"]


def test_without_an_agent_its_journal_is_asked(host: Path) -> None:
    journal = FileJournal(host / "state" / "journal", 2**24)
    journal.begin(Config().model_dump_json(by_alias=True), Memory())
    journal.keep([sample_view.incident()])
    journal.close()
    target = host / "out.tar.gz"
    arguments = ("-c", str(host / "agent.toml"), "--socket", AWAY)
    result = run("support-bundle", str(target), *arguments, width=200)
    assert result.exit_code == 0, result.output
    assert "not in it: status.json: the agent does not answer" in result.output
    found = inside(target)
    assert f"explain/{sample_view.INCIDENT}.json" in found
    assert "status.json" in json.loads(found["manifest.json"])["missing"]
    again = run("support-bundle", str(target), *arguments)
    assert again.exit_code == 1  # nobody's file is written over
    assert "File exists" in again.output


def test_it_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_parts, "FILE_MAX_BYTES", 1000)
    monkeypatch.setattr(bundle_parts, "WHOLE_MAX_BYTES", 2500)
    bundle = Collection(Redactor())
    for number in range(4):
        bundle.take(f"{number}", lambda: "x" * 5000 + "end")
    assert bundle.files["0"].endswith(b"end")
    assert sum(map(len, bundle.files.values())) <= 2500
    assert bundle.missing["3"] == "the bundle is full"


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("password=hunter22", f"password={HIDDEN}"),
        ('"api-key": "a b c"', f'"api-key": "{HIDDEN}"'),
        ("run --token abc123 -v", f"run --token {HIDDEN} -v"),
        ('["--token", "abc123", "-v"]', f'["--token", "{HIDDEN}", "-v"]'),
        ("AWS_SECRET_ACCESS_KEY=abc", f"AWS_SECRET_ACCESS_KEY={HIDDEN}"),
        ("the token is old", "the token is old"),
        ('token = "credential:slack"', 'token = "credential:slack"'),
        ("postgresql://u:word@db/fleet", f"postgresql://{HIDDEN}@db/fleet"),
        ("https://x.example/a?k=v#f", f"https://x.example/a?{HIDDEN}"),
        ("https://hooks.slack.com/services/T/B/x", f"https://hooks.slack.com/{HIDDEN}"),
        ("hf_abcdefghijklmnopqrstuvwx", HIDDEN),
        ("GPU-0 used 8 GiB of 40 GiB", "GPU-0 used 8 GiB of 40 GiB"),
        ("gpuwarden_tick_age_seconds 0.1", "gpuwarden_tick_age_seconds 0.1"),
    ],
)
def test_forms(said: str, left: str) -> None:
    assert Redactor().text(said) == left


@pytest.mark.parametrize("name", ["password", "API_KEY", "x-auth-token", "SLACK_WEBHOOK", "dsn"])
def test_names(name: str) -> None:
    assert is_secret(name)
    assert Redactor().data({name: "word"}) == {name: HIDDEN}
    assert not is_secret("memory")


@settings(deadline=None)
@given(
    st.text(st.characters(codec="ascii", categories=("L", "N", "P", "S")), min_size=8, max_size=40),
    st.text(max_size=60),
    st.text(max_size=60),
)
def test_what_is_known_is_never_left(secret: str, before: str, after: str) -> None:
    assert secret not in Redactor([secret]).text(f"{before}{secret}{after}").replace(HIDDEN, "\0")


def test_a_key_is_recognised_beside_one_that_is_known() -> None:
    frame = "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n"
    said = Redactor([frame.format("knownknown")]).text(frame.format("otherother") + "knownknown")
    assert said == f"{HIDDEN}\n{HIDDEN}"


def test_hostile_text_takes_no_time_out_of_proportion() -> None:
    for evil in (
        "a." * 200_000,
        "a://" * 20_000,
        "-----BEGIN PRIVATE KEY-----" * 5_000,
        "token " * 50_000,
    ):
        Redactor(["secret-value"]).text(evil)


def test_environment_names_only() -> None:
    assert environment_names("A=1\nexport B='x y'\n#C=2\n") == f"A={HIDDEN}\nB={HIDDEN}\n"
    said = hide_environment('Environment=A=1 "B=x y"\nType=notify')
    assert said == f"Environment=A={HIDDEN} B={HIDDEN}\nType=notify"


# --- of an aggregator ---


def test_an_aggregators_bundle_holds_its_fleet_and_no_secret(tmp_path: Path) -> None:
    with Centre(tmp_path / "state", aggregator={"metrics_listen": "none"}) as centre:
        config = tmp_path / "aggregator.toml"
        (tmp_path / "aggregator.d").mkdir()
        (tmp_path / "aggregator.d" / "50.toml").write_text(
            f'[[oncall.webhook]]\nurl = "file:{tmp_path}/hook"\n'
        )
        (tmp_path / "hook").write_text(f"https://hooks.example/page/{WORD}/x\n")
        (tmp_path / "credentials").mkdir()
        (tmp_path / "credentials" / "pd").write_text(f"{WORD}-key\n")
        config.write_text(
            f'[aggregator]\nlisten = "{centre.address}"\nmetrics_listen = "none"\n'
            f'state_dir = "{tmp_path}/state"\n# token = "{WORD}comment"\n'
        )
        line = centre.line("gpu-1")
        line.next()
        done = run("aggregator", "support-bundle", "-c", str(config), str(tmp_path / "b.tar.gz"))
        assert done.exit_code == 0, done.output
        key = next((tmp_path / "state" / "pki").rglob("*key*")).read_text().splitlines()[1]
    files = inside(tmp_path / "b.tar.gz")
    assert {"config/aggregator.toml", "config/aggregator.d/50.toml", "doctor.json"} <= files.keys()
    assert "nodes.json" in files, files["manifest.json"]
    assert "gpu-1" in files["nodes.json"]
    assert json.loads(files["status.json"])["status"]["version"]
    everything = "\n".join(files.values())
    assert WORD not in everything
    assert key not in everything


def test_an_aggregator_that_is_down_has_a_bundle_all_the_same(tmp_path: Path) -> None:
    config = tmp_path / "aggregator.toml"
    config.write_text(f'[aggregator]\nlisten = "127.0.0.1:1"\nstate_dir = "{tmp_path}/none"\n')
    done = run("aggregator", "support-bundle", "-c", str(config), str(tmp_path / "b.tar.gz"))
    assert done.exit_code == 0, done.output
    files = inside(tmp_path / "b.tar.gz")
    assert "status.json" in json.loads(files["manifest.json"])["missing"]
    assert "aggregator" in files["doctor.json"]
