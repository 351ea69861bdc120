"""The build's cache: one folder a step and key, made aside and renamed once whole.

CACHE/<model>/<step>-<key>/          a finished step: result.json and its files
CACHE/<model>/<step>-<key>.partial/  one that runs, or was killed; its checkpoints are found again
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

from handlers.errors import BuildError
from model_build.sources import ROOT

RESULT = "result.json"
T = TypeVar("T")


def root(environment: Mapping[str, str] = os.environ) -> Path:
    """`TURNOUT_CACHE_DIR`, else `.turnout/cache` in the project."""
    named = environment.get("TURNOUT_CACHE_DIR")
    return Path(named) if named else ROOT / ".turnout" / "cache"


@dataclasses.dataclass(frozen=True, slots=True)
class Cache:
    """The finished steps of one model."""

    folder: Path

    def path(self, step: str, key: str) -> Path:
        """Where the step's finished folder is, or will be."""
        return self.folder / f"{step}-{key[:16]}"

    def has(self, step: str, key: str) -> bool:
        """True when the step has finished with this key."""
        return (self.path(step, key) / RESULT).is_file()

    def partial(self, step: str, key: str) -> Path:
        """The folder to work in; what a killed run left there is kept."""
        folder = self.path(step, key).with_suffix(".partial")
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def keep(self, step: str, key: str, result: T, kind: Any) -> T:
        """Stores a result and the files of its partial folder; returns it with its paths as they now are."""
        part, final = self.partial(step, key), self.path(step, key)
        moved: T = _relocate(result, part, final)
        text = TypeAdapter(kind).dump_json(_relocate(moved, self.folder, Path("@cache")), indent=1)
        (part / RESULT).write_bytes(text)
        shutil.rmtree(final, ignore_errors=True)
        part.rename(final)
        return moved

    def load(self, step: str, key: str, kind: Any) -> Any:
        """The stored result. Raises BuildError when it cannot be read."""
        file = self.path(step, key) / RESULT
        try:
            result = TypeAdapter(kind).validate_json(file.read_bytes())
        except ValueError as error:
            raise BuildError(f"{file} is damaged; delete {file.parent} and build again ({error})") from error
        return _relocate(result, Path("@cache"), self.folder)


@contextmanager
def locked(cache: Cache) -> Iterator[None]:
    """Held while a build runs, so that two builds of a model do not write the same folders.

    Raises BuildError when another process holds it.
    """
    cache.folder.mkdir(parents=True, exist_ok=True)
    with (cache.folder / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            owner = json.loads(file.read() or '"?"')
            raise BuildError(f"another build of {cache.folder.name} is running (process {owner})") from error
        file.truncate(0)
        file.write(json.dumps(os.getpid()))
        file.flush()
        yield


def _relocate(value: Any, old: Path, new: Path) -> Any:
    """The same value with every Path under `old` moved to `new`."""
    if isinstance(value, Path):
        return new / value.relative_to(old) if value.is_relative_to(old) else value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        moved = {f.name: _relocate(getattr(value, f.name), old, new) for f in dataclasses.fields(value)}
        return dataclasses.replace(value, **moved)
    if isinstance(value, tuple | list):
        return type(value)(_relocate(item, old, new) for item in value)
    if isinstance(value, Mapping):
        return {key: _relocate(item, old, new) for key, item in value.items()}
    return value
