"""``[[retrain]]``: every mistake is named at its place, and no secret is repeated."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpuwarden.aggregator.wiring import load
from gpuwarden.config_retrain import RetrainConfig
from gpuwarden.errors import ConfigError

GOOD = """
[[retrain]]
service = "chat"
every_s = "30d"
incremental_labels = 5000
[retrain.webhook]
url = "credential:retrain-url"
secret = "credential:retrain"
[[retrain]]
service = "ocr"
accuracy_drop = "3%"
[retrain.exec]
command = ["/usr/local/bin/train", "ocr"]
timeout_s = 30
"""


def read(folder: Path, text: str) -> tuple[RetrainConfig, ...]:
    (folder / "a.toml").write_text(text, encoding="utf-8")
    return load(folder / "a.toml").retrain


def test_both_ways(tmp_path: Path) -> None:
    chat, ocr = read(tmp_path, GOOD)
    assert chat.webhook is not None
    assert ocr.exec is not None
    assert (chat.every_s, chat.webhook.secret) == (30 * 86_400.0, "credential:retrain")
    assert (ocr.accuracy_drop, ocr.exec.command) == (0.03, ("/usr/local/bin/train", "ocr"))


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ('service = ""', "retrain[0].service"),
        ('service = "a\\u0007b"', "printable"),
        ('service = "chat"\nevery_s = "1h"', "every_s of at least cooldown_s"),
        ('service = "chat"\ncooldown_s = 1', "cooldown_s"),
        ('service = "chat"\naccuracy_drop = 0', "accuracy_drop"),
        ('service = "chat"\nlabels_min = -1', "labels_min"),
        ('service = "chat"\nattempts = 99', "attempts"),
        ('service = "chat"\nbaseline = 2', "baseline"),
        ('service = "chat"\nshell = "rm -rf"', 'unknown key "shell"'),
        ('service = "chat"\n[retrain.webhook]\nurl = "ftp://x"', "url"),
        ('service = "chat"\n[retrain.webhook]\nurl = "file:/y"\ntoken = "s3cret"', "token"),
        ('service = "chat"\n[retrain.exec]\ncommand = ["train"]', "absolute path"),
        ('service = "chat"\n[retrain.exec]\ncommand = []', "command"),
        (
            'service = "chat"\n[retrain.exec]\ncommand = ["/x"]\n[retrain.webhook]\nurl = "file:/y"',
            "webhook or exec, not both",
        ),
        ('service = "chat"\n[[retrain]]\nservice = "chat"', "a service stands twice"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, said: str, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, f"[[retrain]]\n{said}\n")
    text = "\n".join(caught.value.faults)
    assert fault in text
    assert "s3cret" not in text
