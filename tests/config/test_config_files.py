"""Loading settings: merge order, origins, and one line for every mistake."""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwarden.config import Config
from gpuwarden.config_files import DROP_INS_MAX, FILE_MAX_BYTES, Loaded, load
from gpuwarden.errors import ConfigError
from gpuwarden.toml_places import places

EXPECTED_S = "expected seconds >= 0 or a duration such as 10s"
HINT = '(did you mean "warmup_s"?)'
GOLDEN = Path(__file__).parent.parent / "golden" / "config"


def write(folder: Path, main: str | None = None, **drop_ins: str) -> Path:
    (folder / "conf.d").mkdir()
    for name, text in drop_ins.items():
        (folder / "conf.d" / f"{name}.toml").write_text(text)
    path = folder / "agent.toml"
    if main is not None:
        path.write_text(main)
    return path


def faults(path: Path, environ: Mapping[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        load(path, environ=environ or {})
    return list(raised.value.faults)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.toml")), ids=lambda path: path.stem)
def test_bad_file_has_its_message(path: Path) -> None:
    expected = path.with_suffix(".expected").read_text().splitlines()
    assert faults(path) == expected


def test_every_golden_message_has_its_file() -> None:
    messages = {path.stem for path in GOLDEN.glob("*.expected")}
    assert messages == {path.stem for path in GOLDEN.glob("*.toml")}
    assert len(messages) > 30


def test_no_file_at_the_usual_place_means_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpuwarden.config_files.DEFAULT_PATH", tmp_path / "none" / "agent.toml")
    loaded = load(None, environ={})
    assert loaded.config == Config()
    assert loaded.files == ()
    assert loaded.origins == {}


def test_a_file_named_outright_must_exist(tmp_path: Path) -> None:
    assert faults(tmp_path / "gone.toml") == [f"gone.toml: no such file ({tmp_path / 'gone.toml'})"]


def test_later_wins_tables_merge_entries_add_up_other_lists_replace(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        '[agent]\nmode = "enforce"\noperator_gids = [1, 2]\n[quota]\nwarmup_s = 1\n'
        'soft_hold_s = "3s"\n[[tenant]]\nmatch.image = "a"\n',
        **{
            "10-first": '[quota]\nwarmup_s = 2\n[[tenant]]\nmatch.image = "b"\n',
            "9-is-after-10": "[quota]\nwarmup_s = 9\n[agent]\noperator_gids = [7]\n",
            "20-second": '[quota]\nwarmup_s = 20\n[[tenant]]\n\nmatch.image = "c"\nmemory = "1GiB"\n',
        },
    )
    (tmp_path / "conf.d" / "ignored.toml.bak").write_text("nonsense")
    (tmp_path / "conf.d" / ".hidden.toml").write_text("nonsense")
    loaded = load(path, environ={})
    assert loaded.config.quota.warmup_s == 9
    assert loaded.config.quota.soft_hold_s == 3
    assert loaded.config.agent.mode == "enforce"
    assert loaded.config.agent.operator_gids == (7,)
    assert [entry.match.image for entry in loaded.config.tenant] == ["a", "b", "c"]
    assert [file.name for file in loaded.files] == [
        "agent.toml",
        "10-first.toml",
        "20-second.toml",
        "9-is-after-10.toml",
    ]
    assert loaded.origins["quota", "warmup_s"] == "conf.d/9-is-after-10.toml:2"
    assert loaded.origins["quota", "soft_hold_s"] == "agent.toml:6"
    assert loaded.origins["tenant", 2, "memory"] == "conf.d/20-second.toml:6"
    assert loaded.origins["tenant", 1, "match", "image"] == "conf.d/10-first.toml:4"


def test_environment_wins_over_files_and_flags_over_both(tmp_path: Path) -> None:
    path = write(tmp_path, '[agent]\nmode = "observe"\n[quota]\nwarmup_s = 1\n')
    environ = {
        "GPUWARDEN_QUOTA__WARMUP_S": "250ms",
        "GPUWARDEN_LADDER__THROTTLE_CPU_CORES": "0.5",
        "GPUWARDEN_RULES__QUOTA__MODE": "off",
        "GPUWARDEN_AGENT__OPERATOR_GIDS": "[4, 5]",
        "GPUWARDEN_AGENT__MODE": "observe",
        "GPUWARDEN_SOCKET": "/not/a/setting",
        "PATH": "/bin",
    }
    loaded: Loaded[Config] = load(path, environ=environ, flags={"agent.mode": "enforce"})
    assert loaded.config.quota.warmup_s == 0.25
    assert loaded.config.ladder.throttle_cpu_cores == 0.5
    assert loaded.config.rules.quota.mode == "off"
    assert loaded.config.agent.operator_gids == (4, 5)
    assert loaded.config.agent.mode == "enforce"
    assert loaded.origins["quota", "warmup_s"] == "env GPUWARDEN_QUOTA__WARMUP_S"
    assert loaded.origins["agent", "mode"] == "flag"


def test_mistakes_of_the_environment_name_the_variable(tmp_path: Path) -> None:
    environ = {
        "GPUWARDEN_QUOTA__WARMUP": "1",
        "GPUWARDEN_QUOTA__WARMUP_S": "1\nquota.x = 2",
        "GPUWARDEN_TENANT__0__MEMORY": "1",
    }
    assert faults(write(tmp_path, ""), environ) == [
        "env GPUWARDEN_TENANT__0__MEMORY: [[tenant]] entries can only be said in a file",
        f'env GPUWARDEN_QUOTA__WARMUP_S: quota.warmup_s: {EXPECTED_S}, got "1?quota.x = 2"',
        f'env GPUWARDEN_QUOTA__WARMUP: quota.warmup: unknown key "warmup" {HINT}',
    ]


def test_what_cannot_be_read_is_named_and_the_rest_is_still_checked(tmp_path: Path) -> None:
    path = write(tmp_path, "[quota]\nwarmup_s = -1\n", big="#" * (FILE_MAX_BYTES + 1))
    (tmp_path / "conf.d" / "bytes.toml").write_bytes(b"# fine\n# \xff\n")
    (tmp_path / "conf.d" / "folder.toml").mkdir()
    (tmp_path / "conf.d" / "gone.toml").symlink_to("/nonexistent")
    os.mkfifo(tmp_path / "conf.d" / "pipe.toml")
    assert faults(path) == [
        "conf.d/big.toml: larger than 1 MiB",
        "conf.d/bytes.toml: not UTF-8 (byte 9, line 2)",
        "conf.d/folder.toml: cannot be read: Is a directory",
        f"conf.d/gone.toml: no such file ({tmp_path / 'conf.d' / 'gone.toml'})",
        "conf.d/pipe.toml: not a regular file",
        "agent.toml:2: quota.warmup_s: expected seconds >= 0 or a duration such as 10s, got -1",
    ]


def test_a_folder_of_drop_ins_that_cannot_be_listed_is_named(tmp_path: Path) -> None:
    (tmp_path / "conf.d").write_text("")
    (tmp_path / "agent.toml").write_text("")
    assert faults(tmp_path / "agent.toml") == ["conf.d: cannot be listed: Not a directory"]


def test_drop_ins_are_bounded(tmp_path: Path) -> None:
    path = write(tmp_path, "", **{f"{number:04}": "" for number in range(DROP_INS_MAX + 1)})
    assert faults(path) == [f"conf.d: {DROP_INS_MAX + 1} drop-ins, more than {DROP_INS_MAX}"]


def test_a_huge_array_costs_bounded_work_and_loses_only_lines() -> None:
    text = "a = [\n" + "1,\n" * 50_000 + "]\nb = 2\n"
    assert places(text) == {}
    assert places("b = 2\n" + text) == {("b",): 1}


KEYS = st.text(alphabet="ab\n\" ]#='[", min_size=1, max_size=4)
VALUES = st.recursive(
    st.integers(-5, 5) | st.text(alphabet="a\n\"'#[]=", max_size=6),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


@given(st.lists(st.tuples(KEYS, VALUES), max_size=6, unique_by=lambda pair: pair[0]))
def test_each_statement_is_found_on_the_line_where_it_begins(
    pairs: list[tuple[str, object]],
) -> None:
    text, lines = "", {}
    for key, value in pairs:
        lines[(key,)] = text.count("\n") + 1
        text += f"{_basic(key)} = {_literal(value)}\n"
    assert set(tomllib.loads(text)) == {key for key, _ in pairs}
    found = places(text)
    assert {path: line for path, line in found.items() if len(path) == 1} == lines


def _basic(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _literal(value: object) -> str:
    """Arrays and strings over several lines: what a line-by-line reader gets wrong."""
    if isinstance(value, list):
        return "[\n" + "".join(f"  {_literal(item)}, # ]\n" for item in value) + "]"
    if isinstance(value, str):
        body = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"""\n{body}"""'
    return str(value)


def test_the_shipped_example_says_nothing_wrong_once_its_marks_are_gone(tmp_path: Path) -> None:
    """``# repeat_s = "30m"  # what ...`` and ``# [[oncall.slack]]`` are settings; other comments are words."""
    shipped = Path(__file__).resolve().parents[2] / "packaging" / "agent.toml"
    said = re.sub(r"^# (?=\[|[a-z_]+ = )", "", shipped.read_text(), flags=re.MULTILINE)
    loaded = load(write(tmp_path, said), environ={})
    assert [kind for kind, _ in loaded.config.oncall.sinks] == [
        *("alertmanager", "pagerduty", "webhook", "slack", "email", "exec")
    ]
    assert len(loaded.config.oncall.steps) == 2
