"""A pod as a CRI tells it: whose labels count, and its owner's name across re-creation."""

import pytest

from gpuwarden.adapters.cri_describe import facts_of, owner_of_pod
from gpuwarden.adapters.docker_describe import MAX_LABELS
from gpuwarden.model.ids import TenantId
from gpuwarden.wire.cri_v1 import runtime_pb2 as pb

TENANT = TenantId("pod:x/y")


def pod(
    labels: dict[str, str] | None = None, annotations: dict[str, str] | None = None
) -> pb.PodSandbox:
    metadata = pb.PodSandboxMetadata(name="web", uid="u", namespace="shop")
    return pb.PodSandbox(
        metadata=metadata, created_at=5_000_000_000, labels=labels, annotations=annotations
    )


def container(labels: dict[str, str] | None = None) -> pb.ContainerStatus:
    return pb.ContainerStatus(metadata=pb.ContainerMetadata(name="app"), labels=labels)


def test_a_label_counts_before_an_annotation() -> None:
    facts = facts_of(
        TENANT,
        pod(
            labels={"gpuwarden.class": "low"},
            annotations={"gpuwarden.class": "high", "gpuwarden.memory": "8GiB"},
        ),
        container(),
    )
    assert facts.labels == (("gpuwarden.class", "low"), ("gpuwarden.memory", "8GiB"))


def test_names_are_those_the_kubelet_gave() -> None:
    """Labels that claim another pod's name are only labels."""
    forged = {"io.kubernetes.pod.name": "risk", "io.kubernetes.pod.namespace": "bank"}
    facts = facts_of(TENANT, pod(annotations=forged), container(labels=forged))
    assert (facts.name, facts.owner_key) == ("shop/web/app", "kubernetes:shop/web/app")
    alone = facts_of(TENANT, None, container(labels=forged))
    assert alone.name == "bank/risk/app"


def test_a_flood_of_labels_cannot_push_ours_out() -> None:
    flood = {f"a{i}": "x" * 5000 for i in range(1000)}
    facts = facts_of(TENANT, pod(labels=flood, annotations={"gpuwarden.memory": "1GiB"}), None)
    assert len(facts.labels) == MAX_LABELS
    assert facts.labels[0] == ("gpuwarden.memory", "1GiB")
    assert max(len(value) for _, value in facts.labels) == 2048


def test_what_is_not_told_is_none() -> None:
    facts = facts_of(TENANT, None, pb.ContainerStatus())
    assert (facts.name, facts.image, facts.owner_key, facts.started_wall) == (None,) * 4
    assert facts_of(TENANT, pod(), None).started_wall == 5.0
    asked_for = pb.ImageSpec(user_specified_image="app:1")
    assert facts_of(TENANT, None, pb.ContainerStatus(image=asked_for)).image == "app:1"


@pytest.mark.parametrize(
    ("pod", "labels", "stem"),
    [
        ("web-5d9c7b-x2x9z", {"pod-template-hash": "5d9c7b"}, "web"),
        ("web-5d9c7b-x2x9z", {}, "web-5d9c7b-x2x9z"),
        ("web-5d9c7b-x2x9z", {"pod-template-hash": "other"}, "web-5d9c7b-x2x9z"),
        ("-5d9c7b-x2x9z", {"pod-template-hash": "5d9c7b"}, "-5d9c7b-x2x9z"),
        ("train-4h7dk", {"job-name": "train"}, "train"),
        ("train-0-4h7dk", {"batch.kubernetes.io/job-name": "train"}, "train"),
        ("train-4h7dk", {"job-name": "risk"}, "train-4h7dk"),
        ("ingest-4h7dk", {"controller-revision-hash": "7c6b"}, "ingest"),
        ("db-0", {"controller-revision-hash": "db-7c6b"}, "db-0"),
        ("db-aeiou", {"controller-revision-hash": "db-7c6b"}, "db-aeiou"),
        ("static-node1", {}, "static-node1"),
    ],
)
def test_owner_across_re_creation(pod: str, labels: dict[str, str], stem: str) -> None:
    assert owner_of_pod("shop", pod, "app", labels) == f"kubernetes:shop/{stem}/app"


def test_a_pod_without_a_name_has_no_owner() -> None:
    assert owner_of_pod("", "web", "app", {}) is None
    assert owner_of_pod("shop", "", "app", {}) is None
