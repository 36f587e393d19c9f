"""Links of docs/ lead somewhere, settings and verbs named in it exist, and pages are short."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest
from pydantic import BaseModel

from gpuwarden.cli import main
from gpuwarden.config import Config
from gpuwarden.config_aggregator import AGGREGATOR_PATH, AggregatorConfig
from gpuwarden.config_files import load, load_as
from tests.docs.book import DOCS, PAGES, ROOT, blocks, inline, steps

LINES_MAX = 120
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
KEY = re.compile(r"([a-z_]+)((?:\.[A-Za-z_]+)+)\Z")  # quota.hard_margin_ratio


def anchors(page: Path) -> set[str]:
    """As hosting sites make them from headings."""
    found = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in found}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_are_short_and_links_resolve(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LINES_MAX
    for target in LINK.findall(text):
        file, _, anchor = target.partition("#")
        there = page if not file else (page.parent / file).resolve()
        assert there.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(there), f"{page.name}: {target}"


def test_every_page_is_in_the_index_and_in_the_readme() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for page in PAGES:
        if page.name != "README.md":
            assert f"({page.name})" in index
            assert f"(docs/{page.name})" in readme


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_settings_are_taken_by_the_loader(page: Path, tmp_path: Path) -> None:
    for number, block in enumerate(b for b in blocks(page) if b.language == "toml"):
        path = tmp_path / f"{number}.toml"
        path.write_text(block.text, encoding="utf-8")
        if block.words[0] == "aggregator":
            load_as(AggregatorConfig, path, "none.d", True, {})
        else:
            load(path, environ={})


def is_setting(model: type[BaseModel], names: list[str]) -> bool:
    """Whether a dotted path leads to a field, through tables and arrays of tables."""
    field = next((f for n, f in model.model_fields.items() if names[0] in (n, f.alias)), None)
    if field is None:
        return False
    if len(names) == 1:
        return True
    return any(is_setting(inner, names[1:]) for inner in _tables(field.annotation))


def _tables(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    arguments = getattr(annotation, "__args__", ())
    return [inner for each in arguments for inner in _tables(each)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_settings_named_in_the_text_exist(page: Path) -> None:
    sections = {*Config.model_fields, *AggregatorConfig.model_fields}
    for line, word in inline(page):
        for part in re.split(r"[\s,=]+", word):
            found = KEY.match(part)
            if found is None or found[1] not in sections or part.endswith((".toml", ".service")):
                continue
            names = part.split(".")
            assert is_setting(Config, names) or is_setting(AggregatorConfig, names), (
                f"{page.name}:{line}: {part}"
            )


def test_a_setting_that_is_not_there_is_seen() -> None:
    assert is_setting(Config, ["quota", "clear_ratio"])
    assert is_setting(Config, ["service", "probe", "restart"])
    assert not is_setting(Config, ["quota", "clear_ration"])


def fault_of(words: list[str]) -> str:
    """What is wrong with ``gpuwarden WORDS`` as far as verbs and options go."""
    here: click.Command = main
    context = click.Context(main)
    for word in words:
        if word in ("|", ">", ">>", "<", ";", "&&", "#") or word[0] in "><":
            break
        if isinstance(here, click.Group) and not word.startswith("-"):
            below = here.get_command(context, word)
            if below is None:
                return "" if here.invoke_without_command else f"no verb {word}"
            here = below
        elif word.startswith("-") and word not in ("-h", "--help", "--version"):
            names = {o for p in here.params for o in (*p.opts, *p.secondary_opts)}
            if word.partition("=")[0] not in names:
                return f"no option {word} of {here.name}"
        if here.name == "run":
            break
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_verbs_and_options_exist(page: Path) -> None:
    said = [(line, word) for line, word in inline(page)]
    for block in blocks(page):
        if block.language == "console":
            said += [(s.line, s.command) for s in steps(block)]
    for line, text in said:
        for part in re.split(r"(?:^|[;&|(]\s*)(?=gpuwarden )", text):
            if part.startswith("gpuwarden "):
                words = shlex.split(part.replace("'", '"') if part.count("'") % 2 else part)
                assert not fault_of(words[1:]), f"{page.name}:{line}: {fault_of(words[1:])}"


def test_verbs_that_are_not_there_are_seen() -> None:
    assert fault_of(["fleet", "invent"]) == "no verb invent"
    assert fault_of(["status", "--jsno"]) == "no option --jsno of status"
    assert not fault_of(["fleet", "thaw", "GROUP", "--reason"])


def test_the_aggregators_file_is_where_pages_say() -> None:
    assert str(AGGREGATOR_PATH) == "/etc/gpuwarden/aggregator.toml"
    assert tomllib.loads((ROOT / "packaging" / "agent.toml").read_text()) is not None
