"""The parts of a support bundle: each is taken by itself, within a deadline, and what cannot be had is named."""

import http.client
import json
import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpuwarden.adapters.node_client import NodeClient
from gpuwarden.adapters.pki.names import KEY
from gpuwarden.adapters.secrets import Secrets
from gpuwarden.adapters.tool import Tool
from gpuwarden.clock import SystemClock
from gpuwarden.commands.checks_host import libraries
from gpuwarden.commands.checks_unit import UNIT
from gpuwarden.commands.config import as_toml
from gpuwarden.commands.doctor import examine
from gpuwarden.commands.output import jsonable
from gpuwarden.commands.redaction import (
    Redactor,
    environment_names,
    hide_environment,
    hide_in_config,
)
from gpuwarden.commands.version import versions
from gpuwarden.config import Config
from gpuwarden.config_files import DEFAULT_PATH, load
from gpuwarden.errors import ConfigError, GpuwardenError, Unavailable
from gpuwarden.model.decision import Incident
from gpuwarden.node.journal import read
from gpuwarden.node.recover import recover

FILE_MAX_BYTES = 2 * 2**20
"""Of a longer one the end is kept: that is where the trouble is."""
WHOLE_MAX_BYTES = 24 * 2**20
EXPLAINED_MAX = 30
INCIDENTS_MAX = 200
TOOL_S = 10.0
PAGE_S = 5.0
LINES = 2000
ENVIRONMENT_FILE = Path("/etc/default/gpuwarden")


@dataclass(slots=True)
class Collection:
    """Files by their name in the bundle, and what could not be had, with the reason."""

    redactor: Redactor
    files: dict[str, bytes] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, connect: Callable[[], NodeClient], path: Path | None) -> "Collection":
        """Everything. Texts are made safe before they are cut: half a secret would not be found."""
        main = path or DEFAULT_PATH
        config = _config_of(path)
        bundle = cls(Redactor(_secrets(config, main.parent)))
        bundle.take("versions.json", lambda: as_json(about()))
        bundle.take("doctor.json", lambda: as_json({"checks": examine(connect, path)}))
        bundle.configuration(path, main)
        incidents = bundle.agent(connect, config)
        bundle.take("incidents.json", lambda: as_json({"incidents": incidents}))
        bundle.take("metrics.txt", lambda: metrics_page(config.agent.metrics_listen))
        bundle.tools()
        manifest = {"missing": dict(bundle.missing), "files": sorted(bundle.files)}
        bundle.take("manifest.json", lambda: as_json(manifest))
        return bundle

    def take(self, name: str, make: Callable[[], str | dict[str, Any]]) -> None:
        """One file, or a line that says why not."""
        try:
            made = make()
        except (GpuwardenError, OSError, ValueError, http.client.HTTPException) as error:
            self.missing[name] = self.redactor.text(str(error))[:300]
            return
        if isinstance(made, dict):
            text = json.dumps(self.redactor.data(made), indent=1, ensure_ascii=True)
        else:
            text = self.redactor.text(made)
        data = text.encode("utf-8", "replace")
        if len(data) > FILE_MAX_BYTES:
            data = b"(the beginning was cut off)\n" + data[-FILE_MAX_BYTES:]
        left = WHOLE_MAX_BYTES - sum(map(len, self.files.values()))
        if len(data) > left:
            self.missing[name] = "the bundle is full"
            return
        self.files[name] = data

    def configuration(self, path: Path | None, main: Path) -> None:
        """Each file as it stands, and what follows from all of them."""
        for file in (main, *sorted((main.parent / "conf.d").glob("*.toml"))):
            inside = f"config/{file.relative_to(main.parent)}"
            self.take(inside, lambda file=file: hide_in_config(text_of(file)))  # type: ignore[misc]  # bound now
        self.take("config/environment", lambda: environment_names(text_of(ENVIRONMENT_FILE)))
        self.take("config/in-force.toml", lambda: _in_force(path))

    def agent(self, connect: Callable[[], NodeClient], config: Config) -> tuple[Incident, ...]:
        """What it says now; of one that is down, what its journal says."""
        try:
            with connect() as client:
                view = client.view()
                found, _ = client.incidents(is_open_only=False, limit=INCIDENTS_MAX)
                self.take("status.json", lambda: as_json({"view": view}))
                for each in found[:EXPLAINED_MAX]:
                    self.take(
                        f"explain/{each.id}.json",
                        lambda each=each: as_json({"explained": client.explain(each.id)}),  # type: ignore[misc]
                    )
            return found
        except GpuwardenError as error:
            self.missing["status.json"] = self.redactor.text(f"the agent does not answer: {error}")
        try:
            recovered = recover(read(config.agent.state_dir / "journal")).incidents
        except (OSError, GpuwardenError) as error:
            self.missing["explain"] = self.redactor.text(f"{error}")
            return ()
        newest = tuple(sorted(recovered, key=lambda i: i.opened_wall, reverse=True))[:INCIDENTS_MAX]
        for each in newest[:EXPLAINED_MAX]:
            self.take(f"explain/{each.id}.json", lambda each=each: as_json({"explained": each}))  # type: ignore[misc]
        return newest

    def tools(self) -> None:
        """What systemd and the kernel have to say."""
        lines = ("--no-pager", "-n", str(LINES), "-o", "short-iso-precise")
        for name, tool, *words in (
            ("journal.txt", "journalctl", "-u", UNIT, *lines),
            ("kernel.txt", "journalctl", "-k", *lines),
            ("kernel-ring.txt", "dmesg"),
            ("unit/status.txt", "systemctl", "status", UNIT, "--no-pager", "-n", "0"),
            ("unit/files.txt", "systemctl", "cat", UNIT, "--no-pager"),
            ("unit/show.txt", "systemctl", "show", UNIT, "--no-pager"),
        ):
            self.take(name, lambda tool=tool, words=words: said(tool, words))  # type: ignore[misc]


def _config_of(path: Path | None) -> Config:
    try:
        return load(path, environ=os.environ).config
    except ConfigError:
        return Config()


def _in_force(path: Path | None) -> str:
    loaded = load(path, environ=os.environ)
    return hide_in_config("\n".join(as_toml(loaded, has_origin=True)))


def _secrets(config: Config, folder: Path) -> Iterator[str]:
    """The value of every secret that this host's gpuwarden knows, or may be given."""
    yield from secret_values(config.model_dump(mode="json"), folder)
    try:
        yield text_of(config.fleet.identity_dir / KEY)
    except OSError:
        return


def secret_values(settings: dict[str, Any], folder: Path) -> Iterator[str]:
    """What settings name by reference, and what lies in the places of secrets; ``folder``: of the main file."""
    secrets = Secrets(os.environ)
    for where in _references(settings):
        try:
            yield secrets.read(where)
        except Unavailable:
            continue
    given = os.environ.get("CREDENTIALS_DIRECTORY", "")
    folders = [folder / "credentials", *([Path(given)] if given else [])]
    files = [file for place in folders if place.is_dir() for file in sorted(place.iterdir())]
    for file in files:
        try:
            yield text_of(file)
        except OSError:
            continue


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for each in value.values():
            yield from _references(each)
    elif isinstance(value, list):
        for each in value:
            yield from _references(each)
    elif isinstance(value, str) and value.startswith(("credential:", "file:")):
        yield value


def about() -> dict[str, Any]:
    release = "/etc/os-release"
    return {
        **versions(),
        "libraries": libraries(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "system": text_of(Path(release)) if os.path.exists(release) else "",
    }


def as_json(value: dict[str, Any]) -> dict[str, Any]:
    plain = jsonable(value)
    assert isinstance(plain, dict)
    return plain


def text_of(file: Path) -> str:
    """The end of a regular file; a FIFO is not waited for."""
    fd = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as opened:
        return opened.read(FILE_MAX_BYTES).decode("utf-8", "replace")


def metrics_page(listen: str) -> str:
    """The metrics page of an agent on this host."""
    host, _, port = listen.rpartition(":")
    here = "127.0.0.1" if host in ("0.0.0.0", "*", "[::]", "") else host.strip("[]")
    connection = http.client.HTTPConnection(here, int(port), timeout=PAGE_S)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read(FILE_MAX_BYTES).decode("utf-8", "replace")
    finally:
        connection.close()


def said(name: str, words: list[str]) -> str:
    tool = Tool(name=name, clock=SystemClock(), timeout_s=TOOL_S)
    answer = tool.run(*words)
    if not answer.out:
        raise Unavailable(answer.why)
    return hide_environment(answer.out)
