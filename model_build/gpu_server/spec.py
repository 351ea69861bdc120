"""What a release's graph takes and gives, as the server needs it: names, dtypes, bytes of one item."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from handlers.errors import ReleaseError
from handlers.serving.manifest import Manifest, TensorSpec

NUMPY_DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "INT8": np.dtype(np.int8),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
}


@dataclass(frozen=True, slots=True)
class RowSpec:
    """One tensor of one item: `shape` is without the batch axis, `row_bytes` the size of an item in it."""

    name: str
    datatype: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    row_bytes: int

    @property
    def allowed(self) -> str:
        """The shape that a request may send, for messages."""
        return f"[items, {', '.join(map(str, self.shape))}]" if self.shape else "[items]"


@dataclass(frozen=True, slots=True, eq=False)
class GraphSpec:
    """The graph behind one release; compared by identity, so that it is a cheap cache key."""

    model: str
    release: str
    inputs: tuple[RowSpec, ...]
    output: RowSpec

    @property
    def item_bytes(self) -> int:
        """Bytes of one item over all inputs."""
        return sum(tensor.row_bytes for tensor in self.inputs)


def from_manifest(manifest: Manifest) -> GraphSpec:
    """The graph's spec. Raises ReleaseError when a tensor has a free dimension other than the batch."""
    return GraphSpec(
        model=manifest.model,
        release=manifest.release,
        inputs=tuple(_row(tensor) for tensor in manifest.tensors),
        output=_row(manifest.graph_output),
    )


def _row(tensor: TensorSpec) -> RowSpec:
    shape = tensor.shape[1:]
    if -1 in shape or tensor.dtype not in NUMPY_DTYPES:
        raise ReleaseError(
            f"tensor {tensor.name}: {tensor.dtype} {list(tensor.shape)} cannot be batched; allowed: one of "
            f"{', '.join(NUMPY_DTYPES)}, with -1 in first place only"
        )
    dtype = NUMPY_DTYPES[tensor.dtype]
    return RowSpec(tensor.name, tensor.dtype, dtype, shape, math.prod(shape) * dtype.itemsize)


def to_json(spec: GraphSpec) -> str:
    """For a process of the server that is started with it."""
    tensors = [(tensor.name, tensor.datatype, tensor.shape) for tensor in (*spec.inputs, spec.output)]
    return json.dumps({"model": spec.model, "release": spec.release, "tensors": tensors})


def from_json(text: str) -> GraphSpec:
    """The inverse of `to_json`."""
    document = json.loads(text)
    rows = [_row(TensorSpec(name, datatype, (-1, *shape))) for name, datatype, shape in document["tensors"]]
    return GraphSpec(document["model"], document["release"], tuple(rows[:-1]), rows[-1])
