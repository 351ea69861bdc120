"""The order of the steps, and which of them must run: each result is kept under the hash of its inputs.

A step's key is the hash of its code, the recipe's fields that it reads, the data, the libraries'
versions and the keys of the steps it needs. Keys follow from inputs alone, so the whole plan is known
before anything runs.
"""

from __future__ import annotations

import errno
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol, get_type_hints

from handlers.errors import BuildError, TurnoutError
from model_build import data, fingerprint
from model_build.cache import Cache
from model_build.recipe import Recipe, Splits
from model_build.step import Step, Work


class Watch(Protocol):
    """Who looks on: a progress bar, a log, nobody."""

    def started(self, step: str) -> None:
        """A step begins to run."""

    def progressed(self, step: str, share: float, text: str) -> None:
        """A share (0 to 1) of a step is done."""

    def finished(self, step: str, seconds: float, cached: bool) -> None:
        """A step has its result, from the cache or by running."""


class Unwatched:
    """Nobody looks on."""

    def started(self, step: str) -> None: ...

    def progressed(self, step: str, share: float, text: str) -> None: ...

    def finished(self, step: str, seconds: float, cached: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class Planned:
    """One step of a build: its key, and whether its result is in the cache already."""

    step: Step
    key: str
    cached: bool


def plan(recipe: Recipe, splits: Splits, steps: Sequence[Step], cache: Cache) -> tuple[Planned, ...]:
    """What a build would do, in order; nothing is run. Raises ValueError for a step before its needs."""
    base = data.fingerprint(splits)
    values = {field.name: fingerprint.of_value(getattr(recipe, field.name)) for field in fields(recipe)}
    keys: dict[str, str] = {}
    planned = []
    for step in steps:
        missing = [need for need in step.needs if need not in keys]
        if missing:
            raise ValueError(f"step {step.name} needs {', '.join(missing)}, which must come before it")
        reads = sorted(values) if step.reads is None else sorted(step.reads)
        keys[step.name] = fingerprint.digest(
            [base, step.name, fingerprint.of_code(step.function), fingerprint.versions(step.libraries)]
            + [f"{name}={values[name]}" for name in reads]
            + [keys[need] for need in step.needs]
        )
        planned.append(Planned(step, keys[step.name], cache.has(step.name, keys[step.name])))
    return tuple(planned)


def run(
    recipe: Recipe, splits: Splits, planned: Sequence[Planned], cache: Cache, watch: Watch | None = None
) -> Mapping[str, Any]:
    """Runs what is not cached; returns each step's result by name.

    Raises BuildError when a step cannot go on, naming recipe, step and cause. Steps that have finished stay
    in the cache, and the unfinished one keeps its checkpoints, so the next build goes on from there.
    """
    watch = watch or Unwatched()
    results: dict[str, Any] = {}
    for item in planned:
        name = item.step.name
        kind = get_type_hints(item.step.function)["return"]
        if item.cached:
            results[name] = cache.load(name, item.key, kind)
            watch.finished(name, 0.0, True)
            continue
        watch.started(name)
        begun = time.perf_counter()
        results[name] = _run_one(recipe, splits, item, cache, watch, results, kind)
        watch.finished(name, time.perf_counter() - begun, False)
    return results


def _run_one(
    recipe: Recipe,
    splits: Splits,
    item: Planned,
    cache: Cache,
    watch: Watch,
    results: Mapping[str, Any],
    kind: Any,
) -> Any:
    name = item.step.name
    try:
        folder = cache.partial(name, item.key)
        work = Work(recipe, splits, folder, lambda share, text: watch.progressed(name, share, text))
        result = item.step.function(work, *(results[need] for need in item.step.needs))
        return cache.keep(name, item.key, result, kind)
    except TurnoutError:
        raise
    except Exception as error:  # a recipe's code may fail with anything: the user is told where and why
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BuildError(
                f"step {name}: no space left on the disk of {cache.folder}; free some and build again: "
                "the finished steps are kept"
            ) from error
        log = cache.partial(name, item.key) / "error.txt"
        log.write_text("".join(traceback.format_exception(error)))
        raise BuildError(f"recipe {recipe.name}: step {name}: {cause(error)}; all of it: {log}") from error


def cause(error: BaseException) -> str:
    """The error's kind and first line, and the line outside any installed package that raised it."""
    lines = [
        f"{Path(frame.filename).name}, line {frame.lineno}, in {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
        if "site-packages" not in frame.filename
    ]
    said = (str(error).strip().splitlines() or ["no words"])[0]
    return f"{type(error).__name__}: {said}" + (f" ({lines[-1]})" if lines else "")
