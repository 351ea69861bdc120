"""One step of the pipeline: its name, its function, the steps it needs, the recipe's fields it reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_build.recipe import Recipe, Splits

TRAINING_LIBRARIES = ("torch", "torch-pruning", "numpy")
COMPRESSION_LIBRARIES = (*TRAINING_LIBRARIES, "onnx", "onnxscript", "onnxruntime")

Progress = Callable[[float, str], None]
"""Called with the share done (0 to 1) and a short text."""


def silent(_share: float, _text: str) -> None:
    """Progress that nobody looks at."""


@dataclass(frozen=True, slots=True)
class Work:
    """What every step is handed.

    `folder` is the step's own: everything it makes goes there. It is renamed into the cache once the
    step has returned, and what a killed run left in it (checkpoints) is still there at the next try.
    """

    recipe: Recipe
    splits: Splits
    folder: Path
    progress: Progress = silent


@dataclass(frozen=True, slots=True)
class Step:
    """`function(work, *results of needs)` returns a frozen dataclass of JSON-able values and Paths.

    Paths in the result must lie under `work.folder`, or be those of an earlier result. `reads`: the
    recipe's fields that the function uses; the step reruns when one of them changes (None = all), or when
    one of `libraries` has another version.
    """

    name: str
    function: Callable[..., Any]
    needs: tuple[str, ...] = ()
    reads: tuple[str, ...] | None = None
    libraries: tuple[str, ...] = COMPRESSION_LIBRARIES
