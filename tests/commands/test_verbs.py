"""The verbs that need no agent: configuration, doctor, replay, debug, version; and the group itself."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwarden import __version__
from gpuwarden.cli import VERBS
from gpuwarden.commands import checks
from gpuwarden.commands.checks import Check, Result, Roots
from gpuwarden.commands.config import as_toml
from gpuwarden.config import Config, KmsgConfig, TenantPolicy
from gpuwarden.config_files import Loaded, load
from gpuwarden.model.memory import Memory
from gpuwarden.node.journal import FileJournal
from tests.commands.cli_run import AWAY, ROOT, run
from tests.sample_view import INCIDENT, incident, open_incident

GOLDEN_CONFIG = ROOT / "tests" / "golden" / "config"
IMAGE = "a" * 64
DEADLINE_S = 20.0


def test_every_verb_is_a_command_with_a_line_of_help() -> None:
    result = run("--help", width=100)
    assert result.exit_code == 0
    for verb in VERBS:
        assert re.search(rf"^  {verb} +[A-Z]", result.output, re.MULTILINE), verb
    assert "3 agent not reachable" in result.output


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["explain"], ["status", "--nope"], ["gpus", "-o", "xml"]]
)
def test_wrong_use_is_exit_code_two(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Usage:" in result.stderr


def test_a_verb_this_installation_lacks_something_for_says_what(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "gpuwarden.sim.commands", None)
    result = run("simulate", "run", "--devices", "2")
    assert result.exit_code == 1
    assert "simulate cannot run here: import of gpuwarden.sim.commands halted" in result.stderr
    assert run("--help").exit_code == 0


def test_the_daemon_loads_neither_tables_nor_the_numeric_stack() -> None:
    script = """
        import sys
        import gpuwarden.cli, gpuwarden.commands.agent, gpuwarden.wiring
        heavy = {"rich", "pygments", "numpy", "scipy", "pandas"}
        print(sorted(heavy & {name.partition(".")[0] for name in sys.modules}))
    """
    loaded = subprocess.run(
        [sys.executable, "-c", "\n".join(line.strip() for line in script.splitlines())],
        env={**os.environ, "PYTHONPATH": str(ROOT / "agent")},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert loaded.stdout == "[]\n"


def test_version_names_what_it_runs_on() -> None:
    said = json.loads(run("version", "--json").output)
    assert said["gpuwarden"] == __version__
    assert said["parts"]["grpcio"]
    assert f"gpuwarden {__version__}" in run("version").output
    assert __version__ in run("--version").output


# --- configuration ---


def test_check_config_lists_every_mistake_as_the_loader_does() -> None:
    path = GOLDEN_CONFIG / "every_mistake_at_once.toml"
    expected = path.with_suffix(".expected").read_text()
    result = run("check-config", "-c", str(path))
    assert result.exit_code == 1
    assert result.output == f"{expected}4 mistakes\n"
    said = json.loads(run("check-config", "-c", str(path), "--json").output)
    assert said == {"schema": 1, "ok": False, "faults": expected.splitlines()}


def test_check_config_of_a_good_file(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text("[quota]\nwarmup_s = 1\n")
    result = run("check-config", "-c", str(path))
    assert (result.exit_code, result.output) == (0, f"ok: {path}\n")


def test_a_bad_configuration_ends_show_with_the_mistakes() -> None:
    result = run("config", "show", "-c", str(GOLDEN_CONFIG / "unknown_key.toml"))
    assert result.exit_code == 1
    assert "did you mean" in result.stderr
    assert result.stdout == ""


def test_show_tells_who_said_what(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(
        '[quota]\nwarmup_s = "1500ms"\n[[tenant]]\nmatch.image = "x"\nmemory = "8GiB"\n'
    )
    result = run("config", "show", "--origin", "-c", str(path), env={"GPUWARDEN_HOST__HOLD_S": "9"})
    assert "warmup_s = 1.5  # agent.toml:2\n" in result.output
    assert "hold_s = 9.0  # env GPUWARDEN_HOST__HOLD_S\n" in result.output
    assert 'hard_margin_bytes = "64MiB"  # default\n' in result.output
    assert 'memory = "8GiB"  # agent.toml:5\n' in result.output
    said = json.loads(run("config", "show", "--origin", "--json", "-c", str(path)).output)
    assert said["config"]["quota"]["warmup_s"] == 1.5
    assert said["origins"]["tenant[0].memory"] == "agent.toml:5"


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(TEXTS, TEXTS, st.sampled_from([0, 1, 2**20, 2**33 + 1]))
def test_what_show_prints_can_be_read_back(image: str, host: str, size: int) -> None:
    policy = TenantPolicy.model_validate(
        {"match": {"image": image}, "memory": size, "class": "low"}
    )
    config = Config().model_copy(
        update={
            "tenant": (policy, policy),
            "docker": Config().docker.model_copy(update={"host": f"unix:///{host}"}),
        }
    )
    loaded = Loaded(config=config, origins={}, files=())
    for has_origin in (False, True):
        text = "\n".join(as_toml(loaded, has_origin=has_origin))
        again = tomllib.loads(text)
        assert Config.model_validate(again).tenant == config.tenant
        assert again["docker"]["host"] == f"unix:///{host}"


def test_defaults_as_shown_are_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text("")
    path.write_text(run("config", "show", "-c", str(path)).output)
    assert load(path, environ={}).config == Config()


# --- journal ---


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    folder = tmp_path / "journal"
    written = FileJournal(folder, 2**24)
    written.begin(Config().model_dump_json(by_alias=True), Memory())
    written.keep([open_incident(), incident()])
    written.close()
    return folder


def test_explain_from_a_journal_when_the_agent_is_down(journal: Path) -> None:
    result = run("explain", "last", "--journal", str(journal))
    assert result.exit_code == 0
    assert f"{INCIDENT}: evicted" in result.output
    assert "gone now" in result.output
    said = json.loads(run("explain", INCIDENT, "--journal", str(journal), "--json").output)
    assert said["tenant"] is None
    assert said["incident"]["peak_bytes"] == 29 * 2**30
    assert run("explain", "nope", "--journal", str(journal)).exit_code == 1


def test_without_agent_and_journal_explain_names_the_way_out() -> None:
    result = run("explain", "last", "--socket", AWAY)
    assert result.exit_code == 3
    assert "--journal /var/lib/gpuwarden/journal" in result.stderr


def test_nothing_to_replay_is_a_problem(journal: Path) -> None:
    result = run("replay", str(journal))
    assert result.exit_code == 1
    assert "nothing to replay" in result.output
    said = json.loads(run("replay", str(journal), "--json").output)
    assert (said["ticks"], said["differences"]) == (0, [])
    assert run("replay", str(journal / "none")).exit_code == 2


# --- debug ---


def test_owner_of_cgroup_is_the_agents_own_answer() -> None:
    lines = json.dumps({"text": f"0::/docker/{IMAGE}\n"}) + "\nnonsense\n"
    result = run("debug", "owner-of-cgroup", stdin=lines)
    first, second = (json.loads(line) for line in result.output.splitlines())
    assert (first["runtime"], first["container_id"]) == ("docker", IMAGE)
    assert "error" in second
    assert result.exit_code == 1


# --- doctor ---


def roots(folder: Path) -> Roots:
    return Roots(cgroup=folder / "cgroup", dev=folder / "dev", proc=folder / "proc")


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def test_doctor_changes_nothing_and_says_what_to_mend(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(
        f'[agent]\nstate_dir = "{tmp_path}/state"\n[docker]\nhost = "unix://{tmp_path}/x"\n'
    )
    result = run("doctor", "-c", str(path), "--socket", AWAY, "--json")
    said = {check["name"]: check for check in json.loads(result.output)["checks"]}
    assert result.exit_code == 1
    assert said["configuration"]["result"] == "ok"
    assert said["docker"]["result"] == "warning"
    assert said["state"]["result"] == "ok"
    assert said["agent"]["result"] == "failed"
    assert all(check["fix"] for check in said.values() if check["result"] == "failed")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["agent.toml"]
    shown = run("doctor", "-c", str(path), "--socket", AWAY).output
    assert "-> systemctl start gpuwarden" in shown


def test_doctor_goes_on_with_a_bad_configuration() -> None:
    path = GOLDEN_CONFIG / "every_mistake_at_once.toml"
    said = json.loads(run("doctor", "-c", str(path), "--socket", AWAY, "--json").output)["checks"]
    assert said[0]["result"] == "failed"
    assert "(and 3 more)" in said[0]["seen"]
    assert {"clock", "unit", "agent", "cgroup rights", "libraries"} <= {c["name"] for c in said}


def test_doctor_minds_who_may_change_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text("")
    for mode, result in ((0o644, "ok"), (0o664, "failed"), (0o646, "failed")):
        path.chmod(mode)
        said = run("doctor", "-c", str(path), "--socket", AWAY, "--json").output
        assert json.loads(said)["checks"][0]["result"] == result


@pytest.mark.parametrize(
    ("files", "result", "seen"),
    [
        ((), Result.FAILED, "neither a v2 tree nor a v1 freezer"),
        (("cgroup.controllers",), Result.OK, "v2 at"),
        (("freezer/tasks",), Result.OK, "v1 at"),
        (("freezer/tasks", "unified/cgroup.controllers"), Result.OK, "v1 and v2 (hybrid)"),
    ],
)
def test_cgroups(tmp_path: Path, files: tuple[str, ...], result: Result, seen: str) -> None:
    for name in files:
        touch(tmp_path / "cgroup" / name)
    check = checks.check_cgroups(roots(tmp_path))
    assert check.result is result
    assert seen in check.seen


@pytest.mark.parametrize(
    ("driver", "nodes", "links", "result"),
    [
        ("cgroupfs", 2, 0, Result.OK),
        ("systemd", 0, 0, Result.OK),
        ("systemd", 2, 0, Result.WARNING),
        ("systemd", 2, 1, Result.WARNING),
        ("systemd", 2, 2, Result.OK),
    ],
)
def test_device_loss(tmp_path: Path, driver: str, nodes: int, links: int, result: Result) -> None:
    for number in range(nodes):
        touch(tmp_path / "dev" / f"nvidia{number}")
    for number in range(links):
        touch(tmp_path / "dev" / "char" / f"195:{number}")
    check = checks.check_device_loss({"CgroupDriver": driver}, roots(tmp_path))
    assert check.result is result
    assert bool(check.fix) is (result is not Result.OK)


@contextlib.contextmanager
def answering(path: Path, answer: bytes) -> Iterator[None]:
    """A unix socket that gives one connection that answer."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        thread.join(DEADLINE_S)


@pytest.mark.parametrize(
    ("answer", "result", "seen"),
    [
        (
            b'HTTP/1.1 200 OK\r\nContent-Length: 75\r\n\r\n{"ServerVersion": "20.1',
            Result.WARNING,
            "no answer that makes sense",
        ),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", Result.WARNING, "HTTP 500"),
        (b"\x00\x01nonsense\r\n\r\n", Result.WARNING, "no answer that makes sense"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", Result.WARNING, "no answer that"),
        (b'HTTP/1.0 200 OK\r\n\r\n{"ServerVersion": "2\\u001b[2J"}', Result.OK, "2?[2J, cgroup"),
    ],
)
def test_docker_answers_are_not_trusted(
    tmp_path: Path, answer: bytes, result: Result, seen: str
) -> None:
    path = tmp_path / "d.sock"
    with answering(path, answer):
        check = checks.check_docker(str(path), checks.ask_docker(str(path)))
    assert check.result is result
    assert seen in check.seen


def test_the_driver_that_is_not_there() -> None:
    check = checks.check_driver("/nonexistent/libnvidia-ml.so.1", 2)
    assert check.result is Result.FAILED
    assert "(the PCI bus holds 2 GPUs)" in check.seen
    assert "cannot open shared object file" in check.seen
    assert "nvml.library" in check.fix


@pytest.mark.parametrize(
    ("gpus", "result"), [(0, Result.WARNING), (None, Result.FAILED), (1, Result.FAILED)]
)
def test_a_host_without_gpus_is_told_so_and_is_not_ill(
    monkeypatch: pytest.MonkeyPatch, gpus: int | None, result: Result
) -> None:
    monkeypatch.setattr(checks, "_DRIVER_LIBRARY", "libnvidia-ml.so.absent")
    check = checks.check_driver(None, gpus)
    assert check.result is result
    assert ("no GPUs: " in check.seen) is (gpus == 0)


def test_a_library_that_is_no_driver() -> None:
    check = checks.check_driver("libc.so.6", 0)
    assert check.result is Result.FAILED
    assert "its first call ended the process" in check.seen


def test_kernel_log_that_is_not_there(tmp_path: Path) -> None:
    check = checks.check_kernel_log(KmsgConfig(path=tmp_path / "none"))
    assert check.result is Result.FAILED
    assert "No such file" in check.seen


def test_kernel_log_that_others_may_write(tmp_path: Path) -> None:
    touch(tmp_path / "kmsg")
    check = checks.check_kernel_log(KmsgConfig(path=tmp_path / "kmsg"))
    assert check.result is Result.WARNING
    assert "others may write" in check.seen
    check = checks.check_kernel_log(KmsgConfig(path=tmp_path / "kmsg", source="kmsg"))
    assert check.result is Result.FAILED
    assert "character device 1:11" in check.seen


def test_state_dir_needs_room_for_the_journal(tmp_path: Path) -> None:
    assert checks.check_state_dir(tmp_path / "a" / "b", 1).result is Result.OK
    check = checks.check_state_dir(tmp_path, 2**60)
    assert check.result is Result.FAILED
    assert "the journal may take" in check.seen
    assert "journal_max_bytes" in check.fix


def test_pressure(tmp_path: Path) -> None:
    assert checks.check_pressure(roots(tmp_path)).result is Result.WARNING
    touch(tmp_path / "proc" / "pressure" / "memory")
    assert checks.check_pressure(roots(tmp_path)).result is Result.OK


def test_this_host_has_pidfds() -> None:
    assert checks.check_pidfd() == Check(name="pidfd", result=Result.OK, seen="pidfd_open works")
