"""Shares for routers: the text of nginx and Envoy, the page, and the file that is replaced as a whole."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import json_format

from gpuwarden.adapters.router_text import TOTAL, envoy, nginx, parts
from gpuwarden.adapters.share_pages import Documents, SharePages, page
from gpuwarden.errors import Refused
from gpuwarden.model.ramp import ArmShare, Shares

ROOT = Path(__file__).resolve().parents[2]


def told(*shares: float, service: str = "risk") -> Shares:
    names = ("base", "new", "third", "fourth")
    arms = tuple(
        ArmShare(arm=a, version=f"v-{a}", share=s) for a, s in zip(names, shares, strict=False)
    )
    return Shares(service=service, arms=arms)


@pytest.mark.parametrize(
    "shares", [(1.0,), (0.95, 0.05), (1 / 3, 1 / 3, 1 / 3), (0.0, 1.0), (0.99999, 0.00001)]
)
def test_parts_sum_to_the_whole(shares: tuple[float, ...]) -> None:
    found = parts(told(*shares))
    assert sum(part for _, part in found) == TOTAL
    assert all(
        abs(part / TOTAL - share) < 2e-4 for (_, part), share in zip(found, shares, strict=True)
    )


def test_nginx_splits_by_unit_and_an_arm_with_nothing_gets_nothing() -> None:
    assert nginx(told(0.95, 0.05)) == (
        "split_clients $gpuwarden_unit $gpuwarden_risk {\n    95.00% base;\n    * new;\n}\n"
    )
    assert "base" not in nginx(told(0.0, 1.0)), "not even what rounding leaves"
    assert "$gpuwarden_my_model_7 {" in nginx(told(1.0, service="my-model.7"))


def test_envoy_weighs_clusters_by_the_units_hash() -> None:
    said = json.loads(envoy(told(0.95, 0.05)))
    (resource,) = said["resources"]
    route = resource["virtual_hosts"][0]["routes"][0]["route"]
    assert route["weighted_clusters"]["clusters"] == [
        {"name": "risk-base", "weight": 9500},
        {"name": "risk-new", "weight": 500},
    ]
    assert route["weighted_clusters"]["use_hash_policy"] is True
    assert route["hash_policy"] == [{"header": {"header_name": "x-unit"}}]


@pytest.mark.parametrize("name", ["a b", "a;", "{", "", "x" * 200, "a\nb", "ü"])
def test_a_name_that_could_say_something_else_is_refused(name: str) -> None:
    with pytest.raises(Refused):
        nginx(told(1.0, service=name))


def test_the_examples_name_what_is_written() -> None:
    conf = (ROOT / "packaging/router/nginx.conf").read_text()
    (variable,) = set(re.findall(r"proxy_pass http://risk-(\$\w+);", conf))
    assert f"split_clients $gpuwarden_unit {variable} " in nginx(told(0.5, 0.5))
    for arm in ("base", "new"):
        assert f"upstream risk-{arm} " in conf
    example = yaml.safe_load((ROOT / "packaging/router/envoy.yaml").read_text())
    clusters = {c["name"] for c in example["static_resources"]["clusters"]}
    written = json.loads(envoy(told(0.5, 0.5)))["resources"][0]
    weighed = written["virtual_hosts"][0]["routes"][0]["route"]["weighted_clusters"]["clusters"]
    assert {c["name"] for c in weighed} == clusters
    assert "route_config_name': 'risk'" in str(example)
    assert written["name"] == "risk"


def test_envoys_own_schema_takes_the_example_and_what_is_written() -> None:
    """As Envoy reads them: a field that it does not know, or of another type, is a mistake."""
    example = yaml.safe_load((ROOT / "packaging/router/envoy.yaml").read_text())
    bootstrap = json_format.ParseDict(example, bootstrap_pb2.Bootstrap())
    (listener,) = bootstrap.static_resources.listeners
    manager = http_connection_manager_pb2.HttpConnectionManager()
    assert listener.filter_chains[0].filters[0].typed_config.Unpack(manager)
    routes = manager.rds
    said = json.loads(envoy(told(0.95, 0.05)))
    response = json_format.ParseDict(said, discovery_pb2.DiscoveryResponse())
    written = route_pb2.RouteConfiguration()
    assert response.resources[0].Unpack(written)
    assert written.name == routes.route_config_name
    route = written.virtual_hosts[0].routes[0].route
    assert {c.name for c in route.weighted_clusters.clusters} <= {
        cluster.name for cluster in bootstrap.static_resources.clusters
    }
    said["resources"][0]["virtual_hosts"][0]["routes"][0]["route"]["no_such_field"] = 1
    with pytest.raises(json_format.ParseError):
        json_format.ParseDict(said, discovery_pb2.DiscoveryResponse())
    assert router_pb2.Router.DESCRIPTOR.full_name in str(example)


# --- page and file ---


def test_the_page_sums_to_one_and_says_who_runs_what() -> None:
    said = json.loads(page(told(1 / 3, 1 / 3, 1 / 3)))
    assert (said["schema"], said["service"]) == (1, "risk")
    assert sum(round(arm["share"] * 1_000_000) for arm in said["arms"]) == 1_000_000
    assert said["arms"][0]["version"] == "v-base"


def test_the_file_is_replaced_and_never_half_there(tmp_path: Path) -> None:
    now = [told(0.95, 0.05)]
    pages = SharePages(lambda: now, tmp_path / "shares")
    pages.told(now[0])
    file = tmp_path / "shares" / "risk.json"
    before = file.stat().st_ino
    assert json.loads(file.read_text())["arms"][1]["share"] == 0.05
    now[0] = told(0.8, 0.2)
    pages.refresh()
    assert json.loads(file.read_text())["arms"][1]["share"] == 0.2
    assert file.stat().st_ino != before, (
        "moved into place: a reader of the old one reads it to its end"
    )
    assert [p.name for p in file.parent.iterdir()] == ["risk.json"]


@pytest.mark.parametrize("service", ["../etc/passwd", "a/b", ".hidden", "x" * 300, ""])
def test_a_service_of_a_strange_name_has_no_file(tmp_path: Path, service: str) -> None:
    folder = tmp_path / "shares"
    pages = SharePages(list, folder)
    pages.told(told(1.0, service=service))
    assert not folder.exists() or not list(folder.iterdir())
    assert [p.name for p in tmp_path.iterdir()] in ([], ["shares"])


def test_a_folder_that_cannot_be_written_is_counted_and_the_rollout_goes_on(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    pages = SharePages(list, blocked / "below")
    pages.told(told(1.0))
    assert pages.failures == 1


def test_pages_by_name_beside_those_that_are_fixed() -> None:
    pages = SharePages(lambda: [told(1.0, service="my model")], None)
    documents = Documents({"/sd": lambda: b"[]"}, pages.document)
    assert documents.get("/sd")() == b"[]"
    assert json.loads(documents.get("/shares/my%20model")())["service"] == "my model"
    assert documents.get("/shares/other") is None
    assert documents.get("/shares/") is None
    assert documents.get("/elsewhere", "none") == "none"
