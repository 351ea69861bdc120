"""Step 1, data: load a recipe's splits, check them against its specs, hash them.

The data is loaded afresh by every build (seconds) and its hash is the root of every step's key, so a
changed file is noticed wherever it came from.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import numpy as np

from handlers.errors import BuildError, TurnoutError
from model_build.fingerprint import digest, of_array, of_value
from model_build.recipe import Array, Recipe, Sample, Split, Splits, TensorSpec

NUMPY_DTYPES = {
    "BOOL": np.bool_, "UINT8": np.uint8, "INT8": np.int8, "INT32": np.int32, "INT64": np.int64,
    "FP16": np.float16, "FP32": np.float32, "FP64": np.float64,
}  # fmt: skip
SAMPLES_NEEDED = 10


def cut(rows: int, seed: int, sizes: Mapping[str, int], rest: str = "train") -> dict[str, Array]:
    """Disjoint row numbers for each named size, drawn by `seed`; what is left goes to `rest`.

    Raises BuildError when the sizes leave nothing.
    """
    left = rows - sum(sizes.values())
    if left < 1:
        raise BuildError(f"splits {dict(sizes)} need more than the {rows} examples that there are")
    order = np.random.default_rng(seed).permutation(rows)
    ends = np.cumsum([left, *sizes.values()])
    starts = [0, *ends[:-1]]
    return {name: order[start:end] for name, start, end in zip([rest, *sizes], starts, ends, strict=True)}


def load(recipe: Recipe) -> Splits:
    """The recipe's splits, checked. Raises BuildError naming the split, the tensor and the row."""
    try:
        splits = recipe.data()
    except TurnoutError:
        raise
    except Exception as error:  # a recipe's own code may fail with anything: say where
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(frame.filename).name}, line {frame.lineno}"
        raise BuildError(
            f"recipe {recipe.name}: data() failed: {type(error).__name__}: {error} ({where})"
        ) from error
    for field in fields(splits):
        value = getattr(splits, field.name)
        if isinstance(value, Split):
            _check_split(recipe, field.name, value)
    for position, sample in enumerate(splits.samples):
        _check_sample(recipe, position, sample)
    if len(splits.samples) < SAMPLES_NEEDED:
        raise BuildError(f"data: samples: {len(splits.samples)} given, at least {SAMPLES_NEEDED} are needed")
    vocabulary = recipe.preprocess.get("vocabulary")
    if vocabulary is not None and vocabulary not in splits.files:
        raise BuildError(f"data: preprocess names {vocabulary!r}, which is not among the files of the splits")
    return splits


def fingerprint(splits: Splits) -> str:
    """The hash of every array, file and sample."""
    parts = [of_value(dict(splits.files)), of_value(splits.samples)]
    for field in fields(splits):
        value = getattr(splits, field.name)
        if isinstance(value, Split):
            parts += [field.name, *(of_array(tensor) for tensor in value.tensors), of_array(value.targets)]
    return digest(parts)


def _check_split(recipe: Recipe, name: str, split: Split) -> None:
    if len(split.tensors) != len(recipe.tensors):
        raise BuildError(
            f"data: {name}: {len(split.tensors)} tensors; `tensors` declares {len(recipe.tensors)}"
        )
    if len(split) == 0:
        raise BuildError(f"data: {name}: empty; every split needs examples")
    for spec, tensor in zip(recipe.tensors, split.tensors, strict=True):
        _check_tensor(f"data: {name}: {spec.name}", spec, tensor)
        if len(tensor) != len(split):
            raise BuildError(
                f"data: {name}: {spec.name}: {len(tensor)} rows, the first tensor has {len(split)}"
            )
    if name == "unlabelled":
        return
    if len(split.targets) != len(split):
        raise BuildError(f"data: {name}: {len(split.targets)} targets for {len(split)} examples")
    if recipe.task == "classification":
        _check_classes(name, split.targets, len(recipe.labels))
    elif split.targets.ndim != 2 or split.targets.dtype != np.float32:
        raise BuildError(
            f"data: {name}: targets are {split.targets.dtype} {list(split.targets.shape)}; "
            "a regression needs float32 [N, D]"
        )
    else:
        _check_finite(f"data: {name}: targets", split.targets)


def _check_tensor(where: str, spec: TensorSpec, tensor: Array) -> None:
    wanted = NUMPY_DTYPES.get(spec.dtype)
    if wanted is None:
        raise BuildError(
            f"{where}: dtype {spec.dtype} is not a graph dtype; allowed: {', '.join(NUMPY_DTYPES)}"
        )
    if tensor.dtype != wanted:
        raise BuildError(f"{where}: dtype is {tensor.dtype}, the recipe says {spec.dtype}")
    fits = len(tensor.shape) == len(spec.shape) and all(
        want in (-1, have) for want, have in zip(spec.shape, tensor.shape, strict=True)
    )
    if not fits:
        raise BuildError(f"{where}: shape is {list(tensor.shape)}, the recipe says {list(spec.shape)}")
    _check_finite(where, tensor)


def _check_finite(where: str, tensor: Array) -> None:
    if tensor.dtype.kind != "f":
        return
    rows = np.flatnonzero(~np.isfinite(tensor).reshape(len(tensor), -1).all(axis=1))
    if len(rows):
        raise BuildError(f"{where}: NaN or infinity in {len(rows)} rows, the first is row {rows[0]}")


def _check_classes(name: str, targets: Array, classes: int) -> None:
    if targets.ndim != 1 or targets.dtype != np.int64:
        raise BuildError(
            f"data: {name}: targets are {targets.dtype} {list(targets.shape)}; int64 [N] is needed"
        )
    bad = np.flatnonzero((targets < 0) | (targets >= classes))
    if len(bad):
        raise BuildError(
            f"data: {name}: target {targets[bad[0]]} in row {bad[0]} is out of range; "
            f"the recipe has {classes} labels, so 0 to {classes - 1} are allowed"
        )


def _check_sample(recipe: Recipe, position: int, sample: Sample) -> None:
    where = f"data: sample {position}"
    if len(sample.inputs) != len(recipe.inputs):
        raise BuildError(
            f"{where}: {len(sample.inputs)} inputs, the recipe's `inputs` declare {len(recipe.inputs)}"
        )
    for spec, value in zip(recipe.inputs, sample.inputs, strict=True):
        if isinstance(value, bytes) != (spec.dtype == "BYTES"):
            raise BuildError(
                f"{where}: {spec.name}: a {type(value).__name__} does not fit dtype {spec.dtype}"
            )
        if not isinstance(value, bytes):
            _check_tensor(f"{where}: {spec.name}", spec, value[None])
    if recipe.task == "classification" and sample.label not in recipe.labels:
        raise BuildError(f"{where}: label {sample.label!r} is not one of the recipe's labels")
