"""What the doctor says of the runtimes of pods."""

from pathlib import Path

from gpuwarden.commands.checks import Result
from gpuwarden.commands.checks_pods import check_pods
from gpuwarden.config import CriConfig
from tests.adapters.fake_cri import FakeCri, served


def at(path: str) -> CriConfig:
    return CriConfig(endpoint=f"unix://{path}", timeout_s=0.3)


def test_one_that_answers(tmp_path: Path) -> None:
    with served(tmp_path, FakeCri()) as path:
        check = check_pods(at(path))
    assert (check.result, check.seen, check.fix) == (Result.OK, f"fake 1 at {path}", "")


def test_one_that_is_not_where_it_should_be(tmp_path: Path) -> None:
    check = check_pods(at(f"{tmp_path}/none"))
    assert check.result is Result.WARNING
    assert f"{tmp_path}/none: no such socket" in check.seen
    assert "cri.endpoint" in check.fix


def test_one_that_does_not_answer(tmp_path: Path) -> None:
    (tmp_path / "cri.sock").touch()
    check = check_pods(at(f"{tmp_path}/cri.sock"))
    assert (check.result, "Version" in check.seen) == (Result.WARNING, True)


def test_a_docker_s_containerd_is_no_trouble(tmp_path: Path) -> None:
    with served(tmp_path, None) as path:
        check = check_pods(at(path))
    assert (check.result, "no CRI v1" in check.seen) == (Result.OK, True)
