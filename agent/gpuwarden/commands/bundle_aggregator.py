"""The parts of an aggregator's support bundle: as an agent's, of its own configuration, fleet, unit and doctor."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gpuwarden.adapters.fleet_client import FleetClient
from gpuwarden.adapters.pki.names import KEY
from gpuwarden.commands.bundle_parts import (
    LINES,
    Collection,
    about,
    as_json,
    metrics_page,
    said,
    secret_values,
    text_of,
)
from gpuwarden.commands.checks_aggregator import check_all, here
from gpuwarden.commands.config import as_toml
from gpuwarden.commands.fleet_panes import as_data
from gpuwarden.commands.redaction import Redactor, hide_in_config
from gpuwarden.config_aggregator import AGGREGATOR_PATH, AggregatorConfig
from gpuwarden.config_files import load_as
from gpuwarden.errors import ConfigError

UNIT = "gpuwarden-aggregator.service"
DROP_INS = "aggregator.d"
INCIDENTS_MAX = 200
CLIENT_S = 10.0


def collected(path: Path | None, environ: Mapping[str, str], wall: float) -> Collection:
    """Everything; what cannot be had is named. The aggregator may be down."""
    main = path or AGGREGATOR_PATH
    cfg = _config(path)
    bundle = Collection(Redactor(_secrets(cfg, main.parent)))
    bundle.take("versions.json", lambda: as_json(about()))
    bundle.take("doctor.json", lambda: as_json({"checks": check_all(cfg, environ, wall)}))
    for file in (main, *sorted((main.parent / DROP_INS).glob("*.toml"))):
        inside = f"config/{file.relative_to(main.parent)}"
        bundle.take(inside, lambda file=file: hide_in_config(text_of(file)))  # type: ignore[misc]  # bound now
    bundle.take("config/in-force.toml", lambda: _in_force(path))
    address, folder = here(cfg.aggregator.listen), cfg.aggregator.state_dir / "admin"
    bundle.take("status.json", lambda: _asked(address, folder, "status"))
    bundle.take("nodes.json", lambda: _asked(address, folder, "nodes"))
    bundle.take("incidents.json", lambda: _asked(address, folder, "incidents"))
    if cfg.aggregator.metrics_listen is not None:
        listen = cfg.aggregator.metrics_listen
        bundle.take("metrics.txt", lambda: metrics_page(listen))
    lines = ("--no-pager", "-n", str(LINES), "-o", "short-iso-precise")
    for name, tool, *words in (
        ("journal.txt", "journalctl", "-u", UNIT, *lines),
        ("unit/status.txt", "systemctl", "status", UNIT, "--no-pager", "-n", "0"),
        ("unit/files.txt", "systemctl", "cat", UNIT, "--no-pager"),
        ("unit/show.txt", "systemctl", "show", UNIT, "--no-pager"),
    ):
        bundle.take(name, lambda tool=tool, words=words: said(tool, words))  # type: ignore[misc]
    manifest = {"missing": dict(bundle.missing), "files": sorted(bundle.files)}
    bundle.take("manifest.json", lambda: as_json(manifest))
    return bundle


def _config(path: Path | None) -> AggregatorConfig:
    try:
        return load_as(
            AggregatorConfig, path or AGGREGATOR_PATH, DROP_INS, path is not None, {}
        ).config
    except ConfigError:
        return AggregatorConfig()


def _in_force(path: Path | None) -> str:
    loaded = load_as(AggregatorConfig, path or AGGREGATOR_PATH, DROP_INS, path is not None, {})
    return hide_in_config("\n".join(as_toml(loaded, has_origin=True)))


def _secrets(cfg: AggregatorConfig, folder: Path) -> Iterator[str]:
    """Every secret of this aggregator: what its settings name, and the keys of its authority."""
    yield from secret_values(cfg.model_dump(mode="json"), folder)
    state = cfg.aggregator.state_dir
    for file in (state / "admin" / KEY, *sorted((state / "pki").rglob("*"))):
        try:
            if file.is_file():
                yield text_of(file)
        except OSError:
            continue


def _asked(address: str, folder: Path, what: str) -> dict[str, Any]:
    """One question, by the certificate of root on this host."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    with FleetClient(address, folder, timeout_s=CLIENT_S) as client:
        if what == "status":
            return {"status": as_data(client.status())}
        if what == "nodes":
            return {"nodes": [as_data(node) for node in client.nodes()]}
        found, _ = client.incidents(is_open_only=False, node="", limit=INCIDENTS_MAX)
        return as_json({"incidents": [{"node": node, "incident": each} for node, each in found]})
