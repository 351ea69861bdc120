from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import pytest

from handlers.errors import BuildError
from infra import bundling, elf, package_tree


def elf_file(path: Path, machine: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 3, machine) + bytes(44))


def test_elf_architecture_is_read_from_the_header(tmp_path: Path):
    elf_file(tmp_path / "a.so", 0xB7)
    elf_file(tmp_path / "x.so", 0x3E)
    elf_file(tmp_path / "r.so", 0xF3)
    (tmp_path / "text.so").write_text("no")
    assert elf.architecture(tmp_path / "a.so") == "arm64"
    assert elf.architecture(tmp_path / "x.so") == "x86_64"
    assert elf.architecture(tmp_path / "r.so") == "unknown 0xf3"
    assert elf.architecture(tmp_path / "text.so") is None


def test_a_shared_object_for_another_machine_is_refused(tmp_path: Path):
    elf_file(tmp_path / "numpy" / "core.so", 0x3E)
    elf.check(tmp_path, "x86_64")
    with pytest.raises(BuildError, match=r"numpy/core\.so .* is for x86_64, the stage wants arm64"):
        elf.check(tmp_path, "arm64")


def test_stripping_takes_tests_and_stubs_and_leaves_code(tmp_path: Path):
    for name in (
        "numpy/core.py",
        "numpy/lib/tests/test_a.py",
        "numpy/a.pyi",
        "bin/f2py",
        "a.dist-info/RECORD",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    package_tree.strip(tmp_path)
    left = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()]
    assert left == ["numpy/core.py"]


def sized(tree: Path, megabytes: dict[str, int]) -> None:
    for name, amount in megabytes.items():
        (tree / name).mkdir(parents=True)
        with (tree / name / "blob").open("wb") as file:
            file.truncate(amount * 1_000_000)


def test_a_package_above_the_budget_warns(tmp_path: Path):
    sized(tmp_path, {"torch": 120})
    said: list[str] = []
    package_tree.check_size(tmp_path, said.append)
    assert "120 MB" in said[0]
    assert "budget is 100 MB" in said[0]


def test_a_package_above_lambdas_limit_names_its_five_largest_parts(tmp_path: Path):
    sized(tmp_path, {"a": 100, "b": 80, "c": 60, "d": 40, "e": 20, "f": 10})
    with pytest.raises(
        BuildError, match="a 100 MB, b 80 MB, c 60 MB, d 40 MB, e 20 MB; Lambda allows 250 MB"
    ):
        package_tree.check_size(tmp_path)


def test_equal_trees_give_equal_zips(tmp_path: Path):
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        for file in ("b.py", "a.py") if name == "one" else ("a.py", "b.py"):
            (folder / file).write_text(file)
    first, second = (package_tree.write_zip(tmp_path / n, tmp_path / f"{n}.zip") for n in ("one", "two"))
    assert first.read_bytes() == second.read_bytes()


def test_identity_depends_on_target_and_sources(tmp_path: Path):
    (tmp_path / "handlers").mkdir()
    (tmp_path / "handlers" / "requirements.txt").write_text("numpy==1")
    arm, host = bundling.Target("arm64", "3.13"), bundling.host()
    before = bundling.identity(arm, tmp_path)
    assert before == bundling.identity(arm, tmp_path)
    assert before != bundling.identity(host, tmp_path)
    (tmp_path / "handlers" / "new.py").write_text("x = 1")
    assert bundling.identity(arm, tmp_path) != before


@pytest.mark.slow
def test_the_arm64_package_is_whole_small_and_reproducible(tmp_path: Path):
    # Given two builds from the same inputs in different folders (wheels from the cache, if they are there)
    target = bundling.Target("arm64", "3.13")
    caches = [tmp_path / name for name in ("first", "second")]
    for cache in caches:
        cache.mkdir()
        (bundling.CACHE / "wheels").mkdir(parents=True, exist_ok=True)
        (cache / "wheels").symlink_to(bundling.CACHE / "wheels")
    first, second = (bundling.build(target, cache=cache) for cache in caches)
    # Then they are the same bytes
    assert first.zip.read_bytes() == second.zip.read_bytes()
    # And every shared object is arm64, nothing is a test, and the size is within the budget
    with zipfile.ZipFile(first.zip) as archive:
        archive.extractall(tmp_path / "tree")
        names = archive.namelist()
    elf.check(tmp_path / "tree", "arm64")
    assert sum(elf.architecture(path) == "arm64" for path in (tmp_path / "tree").rglob("*.so*")) > 10
    assert not [name for name in names if "/tests/" in name or name.endswith(".pyi")]
    assert "handlers/predict.py" in names
    assert not [name for name in names if name.startswith("boto3/")]
    assert first.unzipped_bytes < package_tree.BUDGET_MB * 1e6
    # And its line says what was not done
    assert "not run here" in first.line(target)
