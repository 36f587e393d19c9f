"""``gpuwarden model``: what people and programs are told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from click.testing import CliRunner, Result

from gpuwarden.cli import main
from tests.adapters.dicom_files import image, raw
from tests.evaluate.quality.pictures import lopsided

IMAGE: Any = nibabel.Nifti1Image


def _run(*words: str | Path) -> Result:
    return CliRunner().invoke(main, ["model", *map(str, words)])


def _slice(folder: Path, name: str, *, flipped: bool = False, **tags: Any) -> Path:
    grey = (lopsided(40, 50) * 100).astype("<u2")
    path = folder / name
    path.write_bytes(raw(image(np.flip(grey, 1) if flipped else grey, **tags)))
    return path


def test_a_flip_is_told_and_ends_with_one(tmp_path: Path) -> None:
    before, after = _slice(tmp_path, "a.dcm"), _slice(tmp_path, "b.dcm", flipped=True)
    ran = _run("orientation", before, after)
    assert ran.exit_code == 1
    assert ran.output.splitlines() == [
        "flipped: a mirror image: left and right have changed places",
        "axes point to PR, and are said to point to PL",
    ]
    said = json.loads(_run("orientation", before, after, "--json").output)
    assert said["judgement"]["is_refused"]
    assert said["judgement"]["outcome"] == "flipped"


def test_array_and_header_that_move_together_are_well(tmp_path: Path) -> None:
    turned = ["-1", "0", "0", "0", "1", "0"]
    after = _slice(tmp_path, "b.dcm", flipped=True, ImageOrientationPatient=turned)
    ran = _run("orientation", _slice(tmp_path, "a.dcm"), after)
    assert ran.exit_code == 0, ran.output
    assert ran.output.startswith("reoriented\n")


def test_a_nifti_of_a_slice_and_what_a_model_expects(tmp_path: Path) -> None:
    grey = (lopsided(40, 50) * 100).astype("<i2")
    before = _slice(tmp_path, "a.dcm")
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])  # x, y, z of LPS, in RAS numbers
    nibabel.save(IMAGE(grey.T[:, :, None], affine), tmp_path / "right.nii.gz")
    ran = _run("orientation", before, tmp_path / "right.nii.gz", "--expect", "LP")
    assert ran.exit_code == 0, ran.output
    nibabel.save(IMAGE(grey.T[:, :, None], -affine), tmp_path / "wrong.nii")
    ran = _run("orientation", before, tmp_path / "wrong.nii")
    assert ran.exit_code == 1
    assert "left and right have changed places" in ran.output
    ran = _run("orientation", before, tmp_path / "right.nii.gz", "--expect", "RP")
    assert ran.exit_code == 1
    assert "for a model trained on RP: flipped" in ran.output


def test_what_cannot_be_told_ends_with_one_and_says_why(tmp_path: Path) -> None:
    bare = _slice(tmp_path, "a.dcm", ImageOrientationPatient=None)
    ran = _run("orientation", bare, bare)
    assert ran.exit_code == 1
    assert ran.output.splitlines() == [
        "cannot-tell",
        "ImageOrientationPatient: missing (nor Patient Orientation)",
    ]
    (tmp_path / "junk.dcm").write_bytes(b"junk")
    ran = _run("orientation", bare, tmp_path / "junk.dcm")
    assert ran.exit_code == 1
    assert "file: unreadable" in ran.output
    assert _run("orientation", bare, tmp_path / "none.dcm").exit_code == 2


def test_expect_and_check_a_table(tmp_path: Path) -> None:
    good, expected, bad = (tmp_path / name for name in ("good.csv", "expected.json", "bad.csv"))
    good.write_text(
        "id,age,site\n" + "".join(f"{n},{20 + n % 50},{'ab'[n % 2]}\n" for n in range(200))
    )
    learned = _run("expect", good, "--key", "id")
    assert learned.exit_code == 0
    expected.write_text(learned.output)
    assert _run("check", good, "--expect", expected).output == "200 rows; beyond their limits: 0\n"
    bad.write_text(good.read_text() + "200,-5,c\n7,44,\n")
    ran = _run("check", bad, "--expect", expected)
    assert ran.exit_code == 1
    assert "too-low" in ran.output
    assert "new-category" in ran.output
    assert "duplicate" in ran.output
    said = json.loads(_run("check", bad, "--expect", expected, "--json").output)
    assert said["rows"] == 202
    assert not said["is_well"]
    assert [each["fault"] for each in said["findings"]] == [
        "too-low", "missing-value", "new-category", "duplicate",
    ]  # fmt: skip
    expected.write_text('{"columns": [{"name": "id", "kind": "odd"}], "more": 1}')
    ran = _run("check", bad, "--expect", expected)
    assert ran.exit_code == 1
    assert "columns[0].kind: expected one of" in ran.output
    assert _run("expect", good, "--key", "none").exit_code == 2


def test_annotations(tmp_path: Path) -> None:
    labels, gold = tmp_path / "labels.csv", tmp_path / "gold.csv"
    rows = [
        f"{n},{who},{'x' if who == 'lazy' else 'xy'[n % 2]}"
        for n in range(60)
        for who in ("ann", "bea", "lazy")
    ]
    labels.write_text("item,annotator,label\n" + "\n".join(rows) + "\n7,ann,x\n,ann,x\n")
    gold.write_text("label,item\n" + "".join(f"{'xy'[n % 2]},{n}\n" for n in range(40)))
    ran = _run("annotations", labels, "--gold", gold)
    assert ran.exit_code == 1
    assert "180 answers of 3 people; 1 repeated" in ran.output
    assert "votes: 60 decided, 0 tie, 0 too-few" in ran.output
    assert ran.output.splitlines()[-1] == "lazy: gold accuracy is below what is asked"
    assert "lazy       " in ran.output
    said = json.loads(_run("annotations", labels, "--gold", gold, "--json").output)
    assert said["annotators"][0]["gold"]["right"] == 40
    assert _run("annotations", labels).exit_code == 0, "without gold nobody is below"
    ran = _run("annotations", gold)
    assert ran.exit_code == 1
    assert "no column 'annotator'" in ran.output


def test_kpi(tmp_path: Path) -> None:
    chance = np.random.default_rng(1)
    accuracy = chance.normal(0.9, 0.01, size=120)
    revenue = 1000 + 5000 * np.roll(accuracy, 2) + chance.normal(0, 5, size=120)
    table = tmp_path / "days.csv"
    rows = zip(accuracy, revenue, strict=True)
    table.write_text(
        "accuracy,revenue\n" + "".join(f"{a:.6f},{r:.3f}\n" for a, r in rows) + "oops\n"
    )
    ran = _run("kpi", table, "--metric", "accuracy", "--kpi", "revenue", "--lags", "4")
    assert ran.exit_code == 0, ran.output
    assert ran.output.startswith("revenue rises with accuracy, 2 steps later (slope 5")
    said = json.loads(
        _run("kpi", table, "--metric", "accuracy", "--kpi", "revenue", "--json").output
    )
    assert len(said["associations"]) == 8
    assert said["strongest"][0]["lag"] == 2
    ran = _run("kpi", table, "--metric", "none", "--kpi", "revenue")
    assert ran.exit_code == 1
    assert "no column 'none'" in ran.output


def test_a_series_against_its_nifti(tmp_path: Path) -> None:
    """What converters do: slices become x, y, z in RAS; forgetting that LPS is not RAS swaps left and right."""
    volume = (lopsided(12, 20, 24) * 100).astype("<u2")
    series = tmp_path / "series"
    series.mkdir()
    for k, grey in enumerate(volume):
        tags: dict[str, Any] = {
            "SeriesInstanceUID": "1.2.9",
            "ImagePositionPatient": ["0", "0", str(3 * k)],
        }
        (series / f"{(k * 7) % 12}.dcm").write_bytes(raw(image(grey, **tags)))
    array = np.ascontiguousarray(volume.T).astype("<i2")
    for name, signs, code in (
        ("right.nii.gz", (-1, -1, 3, 1), 0),
        ("wrong.nii.gz", (1, 1, 3, 1), 1),
    ):
        nibabel.save(IMAGE(array, np.diag(np.asarray(signs, dtype=float))), tmp_path / name)
        ran = _run("orientation", series, tmp_path / name)
        assert ran.exit_code == code, ran.output
    assert ran.output.splitlines() == [
        "rotated by 180 degrees: left and right have changed places",
        "axes point to LPS, and are said to point to RAS",
    ]


@pytest.mark.parametrize(
    ("lacking", "words"),
    [
        ("numpy", ["model", "orientation", "image.dcm", "image.dcm"]),
        ("pydicom", ["model", "orientation", "image.dcm", "image.dcm"]),
        ("numpy", ["model", "kpi", "days.csv", "--metric", "a", "--kpi", "b"]),
        ("pyarrow", ["model", "expect", "table.parquet"]),
        ("pydicom", ["simulate", "orientation"]),
    ],
)
def test_what_is_not_installed_is_named(tmp_path: Path, lacking: str, words: list[str]) -> None:
    _slice(tmp_path, "image.dcm")
    for name in ("days.csv", "table.parquet"):
        (tmp_path / name).write_text("a,b\n")
    program = f"import sys; sys.modules[{lacking!r}] = None; from gpuwarden.cli import main; main()"
    ran = subprocess.run(
        [sys.executable, "-c", program, *words],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.returncode == 1, ran.stderr
    assert "pip install 'gpuwarden[" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_tables_and_labels_need_nothing_more(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n3,4\n")
    program = (
        "import sys; sys.modules |= dict.fromkeys(['numpy', 'scipy', 'river', 'pyarrow']);"
        "from gpuwarden.cli import main; main()"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, "model", "expect", "t.csv"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["columns"][0]["name"] == "a"


def test_review_from_predictions_to_corrections(tmp_path: Path) -> None:
    predictions, queue, filled = (tmp_path / f"{name}.jsonl" for name in ("all", "queue", "filled"))
    lines = [
        json.dumps({"id": f"c{n}", "segment": "common", "prediction": "x", "confidence": n / 1000})
        for n in range(1000)
    ]
    lines += [
        json.dumps({"id": f"r{n}", "segment": "rare", "prediction": "y", "confidence": 0.69})
        for n in range(6)
    ]
    predictions.write_text("\n".join([*lines, "junk", "[]", ""]))
    ran = CliRunner().invoke(
        main, ["model", "review", "sample", str(predictions), "--budget", "30"]
    )
    assert ran.exit_code == 0, ran.output
    assert ran.stderr == "30 of 1006 predictions; 1 not-an-object; 1 not-json\n"
    queue.write_text(ran.stdout)
    chosen = [json.loads(line) for line in ran.stdout.splitlines()]
    assert sum(each["segment"] == "rare" for each in chosen) >= 5
    said = [
        json.dumps({**each, "label": "x", "reviewer": who})
        for each in chosen
        for who in ("ann", "bea")
    ]
    filled.write_text("\n".join(said))
    ran = _run("review", "import", queue, filled, "--json")
    assert ran.exit_code == 0, ran.output
    segments = json.loads(ran.output)["segments"]
    assert segments["rare"]["right"] == 0
    assert (
        segments["common"]["right"]
        == segments["common"]["labels"]
        == 30 - segments["rare"]["labels"]
    )
    assert segments["rare"]["gold"]["r0"] == "x"
    filled.write_text("\n".join([*said, '{"id": "nobody", "label": "x", "reviewer": "ann"}', "{"]))
    ran = _run("review", "import", queue, filled)
    assert ran.exit_code == 1
    assert ran.output.startswith(
        "60 corrections; 1 not-json; 1 unknown-id\nline 61: unknown-id\nline 62: not-json\n"
    )
