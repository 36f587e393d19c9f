"""Cordons told to Kubernetes: to a server that takes only what the published OpenAPI allows."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuwarden.adapters.cordon.kube_door import from_kubeconfig, from_pod
from gpuwarden.adapters.cordon.kubernetes import KubernetesBackend
from gpuwarden.clock import SystemClock
from gpuwarden.config_cordon import KubernetesCordon
from gpuwarden.errors import Refused, Unavailable, Unsupported
from gpuwarden.model.ids import DeviceId
from gpuwarden.model.repair import Subject
from tests.adapters.kube_api import TOKEN, KubeApi, served

GPU0 = Subject(device=DeviceId("GPU-0"), index=0)
ONE, TWO = "inc-6985e9a1-4", "inc-6985e9a2-9"
TAINT = "gpuwarden.io/cordoned"


@pytest.fixture
def api() -> Iterator[KubeApi]:
    made = KubeApi()
    yield made
    assert made.faults == []


@pytest.fixture
def kubeconfig(api: KubeApi, tmp_path: Path) -> Iterator[Path]:
    with served(api, tmp_path) as server:
        path = tmp_path / "kubeconfig"
        cluster = {"server": server, "certificate-authority": str(tmp_path / "ca.crt")}
        path.write_text(
            json.dumps(
                {
                    "current-context": "here",
                    "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
                    "clusters": [{"name": "c", "cluster": cluster}],
                    "users": [{"name": "u", "user": {"token": TOKEN}}],
                }
            )
        )
        path.chmod(0o600)
        yield path


@pytest.fixture
def told(kubeconfig: Path) -> KubernetesBackend:
    return backend(kubeconfig)


def backend(kubeconfig: Path, node: str = "gpu-07", timeout_s: float = 20.0) -> KubernetesBackend:
    cfg = KubernetesCordon(kubeconfig=kubeconfig, node=node, timeout_s=timeout_s)
    return KubernetesBackend.of(cfg, SystemClock(), {})


def test_tainted_closed_and_told_and_all_of_it_taken_back(
    api: KubeApi, told: KubernetesBackend
) -> None:
    assert told.cordon(GPU0, ONE, "GPU 0 is lost") == "cordoned"
    assert (api.is_closed, api.taints) == (True, [TAINT])
    assert api.condition == ("True", f"{ONE}: GPU 0 is lost")
    assert told.uncordon(GPU0, ONE, []) == "uncordoned"
    assert (api.is_closed, api.taints) == (False, [])
    assert api.condition == ("False", "none stands")
    assert api.node["metadata"]["annotations"] == {}


def test_the_same_twice_changes_nothing(api: KubeApi, told: KubernetesBackend) -> None:
    told.cordon(GPU0, ONE, "lost")
    writes = api.writes
    assert told.cordon(GPU0, ONE, "lost") == "cordoned"
    assert api.writes == writes
    told.uncordon(GPU0, ONE, [])
    writes = api.writes
    assert told.uncordon(GPU0, ONE, []) == "uncordoned"
    assert api.writes == writes


def test_two_cordons_of_one_node(api: KubeApi, told: KubernetesBackend) -> None:
    told.cordon(GPU0, ONE, "lost")
    told.cordon(GPU0, TWO, "hangs")
    assert told.uncordon(GPU0, ONE, [TWO]) == "cordoned"
    assert (api.is_closed, api.taints) == (True, [TAINT])
    assert api.condition == ("True", f"{TWO}: hangs")
    told.uncordon(GPU0, TWO, [])
    assert (api.is_closed, api.taints) == (False, [])


def test_a_foreign_cordon_stays(api: KubeApi, told: KubernetesBackend) -> None:
    api.kubectl_cordon(True)
    assert told.cordon(GPU0, ONE, "lost") == "tainted; cordoned by others before"
    assert told.uncordon(GPU0, ONE, []) == "taint removed; others' cordon stays"
    assert (api.is_closed, api.taints) == (True, [])


def test_a_cordon_that_an_administrator_has_made_theirs_stays(
    api: KubeApi, told: KubernetesBackend
) -> None:
    told.cordon(GPU0, ONE, "lost")
    api.kubectl_cordon(False)
    api.kubectl_cordon(True)
    told.uncordon(GPU0, ONE, [])
    assert (api.is_closed, api.taints) == (True, [])


def test_other_taints_and_notes_stay(api: KubeApi, told: KubernetesBackend) -> None:
    other = {"key": "example.org/mine", "effect": "NoExecute"}

    def mark(node: dict[str, dict[str, object]]) -> None:
        node["spec"]["taints"] = [other]
        node["metadata"]["annotations"] = {"example.org/note": "x"}

    api.change(mark)
    told.cordon(GPU0, ONE, "lost")
    assert api.taints == ["example.org/mine", TAINT]
    told.uncordon(GPU0, ONE, [])
    assert api.node["spec"]["taints"] == [other]
    assert api.node["metadata"]["annotations"] == {"example.org/note": "x"}


def test_an_administrator_who_comes_in_between_wins(api: KubeApi, told: KubernetesBackend) -> None:
    api.meanwhile = lambda: api.kubectl_cordon(True)
    assert told.cordon(GPU0, ONE, "lost") == "tainted; cordoned by others before"
    told.uncordon(GPU0, ONE, [])
    assert api.is_closed


def test_garbage_in_our_annotation_is_nobodys_cordon(api: KubeApi, told: KubernetesBackend) -> None:
    api.change(
        lambda node: node["metadata"].update(annotations={"gpuwarden.io/cordons": '{"x": 1, "y'})
    )
    assert told.cordon(GPU0, ONE, "lost") == "cordoned"
    assert api.condition == ("True", f"{ONE}: lost")


def test_no_such_node(kubeconfig: Path) -> None:
    with pytest.raises(Refused, match="404"):
        backend(kubeconfig, "gpu-08").cordon(GPU0, ONE, "lost")


def test_a_wrong_token_is_told_without_it(kubeconfig: Path) -> None:
    kubeconfig.write_text(kubeconfig.read_text().replace(TOKEN, "wrong-secret"))
    with pytest.raises(Unavailable, match="401") as failed:
        backend(kubeconfig).cordon(GPU0, ONE, "lost")
    assert "wrong-secret" not in str(failed.value)


def test_an_authority_that_did_not_sign_is_not_believed(kubeconfig: Path) -> None:
    raw = json.loads(kubeconfig.read_text())
    del raw["clusters"][0]["cluster"]["certificate-authority"]
    kubeconfig.write_text(json.dumps(raw))
    with pytest.raises(Unavailable, match=r"(?i)certificate"):
        backend(kubeconfig).cordon(GPU0, ONE, "lost")


def test_a_server_that_never_answers(kubeconfig: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        raw = json.loads(kubeconfig.read_text())
        raw["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{mute.getsockname()[1]}"
        kubeconfig.write_text(json.dumps(raw))
        with pytest.raises(Unavailable):
            backend(kubeconfig, timeout_s=0.5).cordon(GPU0, ONE, "lost")


def test_a_kubeconfig_that_others_may_read_is_not_used(kubeconfig: Path) -> None:
    kubeconfig.chmod(0o644)
    with pytest.raises(Unavailable, match="chmod 600"):
        from_kubeconfig(kubeconfig)


@pytest.mark.parametrize("text", ["apiVersion: v1\n", "{}", '{"contexts": []}', "[]"])
def test_a_kubeconfig_that_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(Unavailable):
        from_kubeconfig(path)


def test_as_a_pods_service_account(api: KubeApi, tmp_path: Path) -> None:
    with served(api, tmp_path) as server:
        (tmp_path / "token").write_text(TOKEN + "\n")
        host, port = server.removeprefix("https://").split(":")
        environ = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
        assert from_pod(environ, tmp_path).server == server
        assert from_pod(environ, tmp_path).token == TOKEN
    with pytest.raises(Unsupported, match="kubeconfig"):
        from_pod({})
