"""The programs compile clean, once, safely beside other builders; and say what is missing."""

from __future__ import annotations

import shutil
import stat
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gpuwarden.errors import Unsupported
from gpuwarden.sim.driver.build import SOURCES, Built, Compiler, build, find_compiler, symbols


@pytest.fixture
def compiler(built: Built) -> Compiler:
    return find_compiler()


def test_sources_compile_without_a_warning(compiler: Compiler, tmp_path: Path) -> None:
    made = build(compiler, tmp_path, extra_flags=("-Werror", "-Wshadow", "-Wvla"))
    for path in (made.library, made.driver, made.workload):
        assert path.is_file()


def test_several_builders_at_once_publish_one_build(compiler: Compiler, tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        folders = {made.folder for made in pool.map(lambda _: build(compiler, tmp_path), range(3))}
    assert len(folders) == 1
    assert [path for path in tmp_path.iterdir() if path.name.startswith("building-")] == []


def test_second_build_compiles_nothing(compiler: Compiler, tmp_path: Path) -> None:
    first = build(compiler, tmp_path)
    before = first.library.stat().st_mtime_ns
    assert build(compiler, tmp_path) == first
    assert first.library.stat().st_mtime_ns == before


def test_workload_is_static(built: Built) -> None:
    said = subprocess.run(
        ["ldd", str(built.workload)], capture_output=True, text=True, timeout=30, check=False
    )
    assert "not a dynamic executable" in said.stderr + said.stdout or "statically" in said.stdout


def test_other_users_can_read_a_build(built: Built) -> None:
    assert built.folder.stat().st_mode & stat.S_IXOTH
    assert built.library.stat().st_mode & stat.S_IROTH


def test_no_compiler_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(Unsupported, match="apt-get install gcc"):
        find_compiler(path=str(tmp_path))


def test_compiler_that_fails_is_quoted(tmp_path: Path) -> None:
    fake = tmp_path / "cc"
    fake.write_text("#!/bin/sh\necho 'nvml_core.c:1: out of ideas' >&2\nexit 1\n")
    fake.chmod(0o755)
    with pytest.raises(Unsupported, match="out of ideas"):
        build(Compiler(command=(str(fake),)), tmp_path)


def test_folder_that_others_can_write_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gpuwarden.sim.driver.build import cache_folder

    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    monkeypatch.setenv("GPUWARDEN_SIM_CACHE", str(shared))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert cache_folder() != shared


@pytest.mark.skipif(shutil.which("nm") is None, reason="no nm on PATH (Debian: binutils)")
def test_library_exports_every_function_and_nothing_else(built: Built) -> None:
    listed = subprocess.run(
        ["nm", "-D", "--defined-only", str(built.library)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    ).stdout
    exported = {line.split()[2] for line in listed.splitlines() if line.split()[1] in "TW"}
    assert exported == set(symbols())


def test_list_of_functions_is_sorted_and_plausible() -> None:
    names = symbols()
    assert list(names) == sorted(set(names))
    assert len(names) > 400
    assert all(name.startswith("nvml") and name.isidentifier() for name in names)


def test_every_source_is_short_enough_to_read() -> None:
    long = {
        path.name: lines
        for path in SOURCES.glob("*.[ch]")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 500
    }
    assert long == {}
