"""The manifests: as the published API takes them, with the rights that the agent's calls need and no others."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from gpuwarden.adapters.cordon.kubernetes import KubernetesBackend
from gpuwarden.config_files import load

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "packaging" / "kubernetes"
CODE = ROOT / "agent" / "gpuwarden" / "adapters" / "cordon"
PUBLISHED = json.loads(
    (ROOT / "tests" / "data" / "kubernetes_deploy.json").read_text(encoding="utf-8")
)
GROUP_VERSION_KIND = "x-kubernetes-group-version-kind"


def manifests() -> list[dict[str, Any]]:
    """Every object of every file that the kustomization names."""
    listed = yaml.safe_load((FOLDER / "kustomization.yaml").read_text(encoding="utf-8"))
    return [
        found
        for name in listed["resources"]
        for found in yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8"))
    ]


def one(kind: str) -> dict[str, Any]:
    (found,) = [each for each in manifests() if each["kind"] == kind]
    return found


def faults_of(manifest: dict[str, Any]) -> list[str]:
    """What the published schema of its kind has against it."""
    group, _, version = manifest["apiVersion"].rpartition("/")
    wanted = {"group": group, "version": version, "kind": manifest["kind"]}
    names = [
        name
        for name, schema in PUBLISHED["definitions"].items()
        if wanted in schema.get(GROUP_VERSION_KIND, [])
    ]
    if len(names) != 1:
        return [f"no schema of {wanted}"]
    schema = {**PUBLISHED, "$ref": f"#/definitions/{names[0]}"}
    checker = jsonschema.Draft7Validator(schema)
    return [f"{error.json_path}: {error.message}" for error in checker.iter_errors(manifest)]


@pytest.mark.parametrize(
    "manifest", manifests(), ids=lambda m: f"{m['kind']}-{m['metadata']['name']}"
)
def test_the_published_schema_takes_it(manifest: dict[str, Any]) -> None:
    assert faults_of(manifest) == []


def test_a_mistake_is_seen() -> None:
    daemons = one("DaemonSet")
    daemons["spec"]["template"]["spec"]["hostPid"] = True
    assert faults_of(daemons)
    assert faults_of({"apiVersion": "v1", "kind": "Pot", "metadata": {}})


def calls_of_the_code() -> set[tuple[str, str]]:
    """(verb, resource) of every call of the API's door: ``self._door.patch(who, f"{self._path}/status", ...)``."""
    found = set()
    for file in sorted(CODE.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Attribute)
                and node.func.value.attr == "_door"
            ):
                continue
            path = ast.unparse(node.args[1])
            assert path in ("self._path", "f'{self._path}/status'"), path
            found.add((node.func.attr, "nodes/status" if path.endswith("/status'") else "nodes"))
    return found


def test_the_path_is_that_of_a_node() -> None:
    text = (CODE / "kubernetes.py").read_text(encoding="utf-8")
    assert 'self._path = f"/api/v1/nodes/{node}"' in text
    assert KubernetesBackend.name == "kubernetes"


def test_rights_are_those_that_the_code_uses() -> None:
    (role,) = [each for each in manifests() if each["kind"] == "ClusterRole"]
    given = {
        (verb, resource)
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert given == calls_of_the_code()
    assert all(rule["apiGroups"] == [""] for rule in role["rules"])


def test_only_cordons_call_the_api() -> None:
    """Whoever else would speak to it needs a right, and a line in this test."""
    agent = ROOT / "agent" / "gpuwarden"
    users = {
        str(file.relative_to(agent))
        for file in agent.rglob("*.py")
        if "KubeDoor" in file.read_text(encoding="utf-8")
    }
    assert users == {"adapters/cordon/kube_door.py", "adapters/cordon/kubernetes.py"}


def test_the_role_is_bound_to_the_pods_account() -> None:
    binding, account = one("ClusterRoleBinding"), one("ServiceAccount")
    pod = one("DaemonSet")["spec"]["template"]["spec"]
    assert binding["roleRef"]["name"] == one("ClusterRole")["metadata"]["name"]
    (subject,) = binding["subjects"]
    metadata = account["metadata"]
    assert (subject["name"], subject["namespace"]) == (metadata["name"], metadata["namespace"])
    assert pod["serviceAccountName"] == metadata["name"]
    policy = one("ValidatingAdmissionPolicy")["spec"]
    who = f"system:serviceaccount:{metadata['namespace']}:{metadata['name']}"
    assert who in policy["matchConditions"][0]["expression"]
    changed = {r for rule in policy["matchConstraints"]["resourceRules"] for r in rule["resources"]}
    assert changed == {
        resource for verb, resource in calls_of_the_code() if verb == "patch"
    }  # a role cannot say whose node: this has to look at every right to change one


def test_labels_ports_and_mounts_fit() -> None:
    daemons, policy = one("DaemonSet")["spec"], one("NetworkPolicy")["spec"]
    labels = daemons["template"]["metadata"]["labels"]
    assert daemons["selector"]["matchLabels"] == labels == policy["podSelector"]["matchLabels"]
    pod = daemons["template"]["spec"]
    volumes = {volume["name"] for volume in pod["volumes"]}
    containers = [*pod["initContainers"], *pod["containers"]]
    assert volumes == {m["name"] for each in containers for m in each["volumeMounts"]}
    (agent,) = pod["containers"]
    port = agent["ports"][0]["containerPort"]
    assert policy["ingress"][0]["ports"][0]["port"] == port
    assert "NODE_NAME" in {each["name"] for each in agent["env"]}


def test_its_configuration_is_taken() -> None:
    config = load(FOLDER / "agent.toml", environ={}).config
    assert config.cordon.kubernetes is not None
    assert config.agent.metrics_listen == "0.0.0.0:9420"
    assert str(config.health.root) == "/host"
    pod = one("DaemonSet")["spec"]["template"]["spec"]
    mounts = {m["mountPath"] for m in pod["containers"][0]["volumeMounts"]}
    assert {"/host/proc", "/host/sys", "/host/dev", str(config.agent.state_dir)} <= mounts
    assert str(config.agent.run_dir) in mounts


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl on PATH")
def test_kustomize_puts_it_together() -> None:
    done = subprocess.run(
        ["kubectl", "kustomize", str(FOLDER)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "unknown command" in done.stderr:
        pytest.skip("this kubectl has no kustomize")
    assert done.returncode == 0, done.stderr
    objects = list(yaml.safe_load_all(done.stdout))
    assert [fault for each in objects for fault in faults_of(each)] == []
    (settings,) = [each for each in objects if each["kind"] == "ConfigMap"]
    (daemons,) = [each for each in objects if each["kind"] == "DaemonSet"]
    named = [
        v["configMap"]["name"]
        for v in daemons["spec"]["template"]["spec"]["volumes"]
        if "configMap" in v
    ]
    assert named == [settings["metadata"]["name"]]  # with its hash: a change rolls the DaemonSet
