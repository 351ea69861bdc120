"""The Lambda package as a tree of files: what is stripped from it, how large it may be, how it is zipped."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

from handlers.errors import BuildError

BUDGET_MB = 100
LIMIT_MB = 250

# Never read at inference; `package_smoke_test.py` runs what is left.
STRIPPED = (
    "bin/*",
    "onnxruntime/capi/libonnxruntime.so*",  # a second copy of what the pybind module contains
    "onnxruntime/transformers/*",
    "onnxruntime/quantization/*",
    "onnxruntime/tools/*",
    "onnxruntime/datasets/*",
    "numpy/f2py/*",
    "numpy/_core/include/*",
    "numpy/*/tests/*",
    "numpy/tests/*",
    "numpy/_pyinstaller/*",
    "*/tests/*",
    "*.pyi",
    "*.a",
    "*.c",
    "*.h",
    "*.js",
    "*.css",
    "*.pxd",
    "*.dist-info/RECORD",
    "*.dist-info/INSTALLER",
    "*.dist-info/REQUESTED",
    "*.dist-info/direct_url.json",
)


def strip(tree: Path) -> None:
    """Delete from `tree` what inference never reads."""
    for path in sorted(tree.rglob("*"), reverse=True):
        name = path.relative_to(tree).as_posix()
        if path.is_file() and any(fnmatch(name, pattern) for pattern in STRIPPED):
            path.unlink()
        elif path.is_dir() and (path.name == "__pycache__" or not any(path.iterdir())):
            shutil.rmtree(path)


def size(tree: Path) -> int:
    """Bytes of all files under `tree`."""
    return sum(path.stat().st_size for path in tree.rglob("*") if path.is_file())


def check_size(tree: Path, say: Callable[[str], None] = lambda _: None) -> None:
    """Above 100 MB warn through `say`, above 250 MB raise BuildError; both name the largest parts."""
    megabytes = size(tree) / 1e6
    if megabytes <= BUDGET_MB:
        return
    parts = sorted(
        (size(part) if part.is_dir() else part.stat().st_size, part.name) for part in tree.iterdir()
    )
    largest = ", ".join(f"{name} {amount / 1e6:.0f} MB" for amount, name in parts[:-6:-1])
    message = f"the package is {megabytes:.0f} MB unzipped, largest parts: {largest}"
    if megabytes > LIMIT_MB:
        raise BuildError(f"{message}; Lambda allows {LIMIT_MB} MB: drop one from handlers/requirements.txt")
    say(f"warning: {message}; the budget is {BUDGET_MB} MB")


def write_zip(tree: Path, path: Path) -> Path:
    """Zip `tree` into `path` so that equal trees give equal bytes: sorted names, fixed times and modes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for file in sorted(found for found in tree.rglob("*") if found.is_file()):
            entry = zipfile.ZipInfo(file.relative_to(tree).as_posix(), date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, file.read_bytes())
    return path
