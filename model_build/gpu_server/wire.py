"""Open Inference Protocol bodies: where the tensors lie in a binary one, what a JSON one holds, and the
answers.

The binary form is decoded without touching the tensors' bytes: only their places in the body are returned.
`handlers.protocol` is the API's codec; this one is the hot loop of a server that answers thousands a
second, so it reads one known graph and knows nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from handlers.errors import InvalidInput
from model_build.gpu_server.spec import GraphSpec, RowSpec

BINARY_TYPE = "application/vnd.sagemaker-triton.binary+json"
HEADER_SIZE = "json-header-size="
Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Layout:
    """A binary request: items, and each input's first byte counted from the start of the body."""

    items: int
    offsets: tuple[int, ...]
    binary_output: bool
    id: str | None


@dataclass(frozen=True, slots=True)
class Values:
    """A JSON request: items, and each input as a contiguous array of the graph's dtype, [items, …]."""

    items: int
    arrays: tuple[Array, ...]
    binary_output: bool
    id: str | None


def json_header_size(content_type: str, header_length: str | None) -> int | None:
    """Bytes of the JSON header of a binary body, or None for a JSON body.

    Reads SageMaker's convention (in the content type) or KServe's (Inference-Header-Content-Length).
    Raises InvalidInput for a number that is not one.
    """
    kind, _, parameters = content_type.partition(";")
    kind = kind.strip().lower()
    field, text = "Inference-Header-Content-Length", header_length
    if kind == BINARY_TYPE:
        field, text = "Content-Type", parameters.strip().removeprefix(HEADER_SIZE)
    elif kind not in ("", "application/json", "application/octet-stream"):
        raise InvalidInput("Content-Type", content_type, f"application/json or {BINARY_TYPE};{HEADER_SIZE}N")
    if text is None:
        return None
    if not text.isascii() or not text.isdigit():
        raise InvalidInput(field, text, "the length of the JSON header in bytes")
    return int(text)


def decode_binary(body: memoryview, header_size: int, spec: GraphSpec) -> Layout:
    """Where the inputs lie. Raises InvalidInput naming the field, the value and what is allowed."""
    if header_size > len(body):
        raise InvalidInput("json-header-size", header_size, f"at most the body's {len(body)} bytes")
    layout, end = _binary_layout(bytes(body[:header_size]), spec)
    if end != len(body):
        raise InvalidInput("body", len(body), f"{end} bytes: the JSON header and the tensors it announces")
    return layout


@lru_cache(maxsize=1024)
def _binary_layout(header: bytes, spec: GraphSpec) -> tuple[Layout, int]:
    document = _document(header)
    entries = _entries(document, spec)
    places: dict[str, int] = {}
    items, at = -1, len(header)
    for entry in entries:
        tensor = _tensor_of(entry, spec)
        items = _items(entry, tensor, items)
        size = _mapping(entry, "parameters", tensor.name).get("binary_data_size")
        if size != items * tensor.row_bytes:
            allowed = f"{items * tensor.row_bytes} bytes: {items} items of {tensor.datatype} {tensor.allowed}"
            raise InvalidInput(f"inputs[{tensor.name}].parameters.binary_data_size", size, allowed)
        places[tensor.name] = at
        at += size
    offsets = tuple(places[tensor.name] for tensor in spec.inputs)
    return Layout(items, offsets, _binary_output(document, True), _id(document)), at


def decode_json(body: bytes | memoryview, spec: GraphSpec) -> Values:
    """The inputs' values. Raises InvalidInput naming the field, the value and what is allowed."""
    document = _document(body)
    arrays: dict[str, Array] = {}
    items = -1
    for entry in _entries(document, spec):
        tensor = _tensor_of(entry, spec)
        items = _items(entry, tensor, items)
        arrays[tensor.name] = _values(entry.get("data"), tensor, items)
    ordered = tuple(arrays[tensor.name] for tensor in spec.inputs)
    return Values(items, ordered, _binary_output(document, False), _id(document))


def encode(
    spec: GraphSpec, output: bytes, items: int, binary: bool, request_id: str | None, nonfinite: list[int]
) -> tuple[bytes, bytes]:
    """(content type, body) of an answer; `output` holds the graph's output for `items` items.

    `nonfinite` lists items whose output holds NaN or infinity: they are named in `parameters`, and are null
    in JSON.
    """
    tensor = spec.output
    entry: dict[str, Any] = {
        "name": tensor.name,
        "datatype": tensor.datatype,
        "shape": (items, *tensor.shape),
    }
    document: dict[str, Any] = {"model_name": spec.model, "model_version": spec.release, "outputs": (entry,)}
    if request_id is not None:
        document["id"] = request_id
    if nonfinite:
        document["parameters"] = {"nonfinite_items": nonfinite}
    if not binary:
        entry["data"] = np.frombuffer(output, tensor.dtype)
        return b"application/json", orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    entry["parameters"] = {"binary_data_size": len(output)}
    header = orjson.dumps(document)
    return f"{BINARY_TYPE};{HEADER_SIZE}{len(header)}".encode(), header + output


def _document(text: bytes | memoryview) -> Mapping[str, Any]:
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidInput("body", bytes(text[:40]), f"an inference request in JSON ({error})") from None
    if not isinstance(document, dict):
        raise InvalidInput("body", document, "a JSON object with `inputs`")
    return document


def _entries(document: Mapping[str, Any], spec: GraphSpec) -> list[dict[str, Any]]:
    entries = document.get("inputs")
    wanted = sorted(tensor.name for tensor in spec.inputs)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InvalidInput("inputs", entries, f"a list of tensors: {', '.join(wanted)}")
    names = [entry.get("name") for entry in entries]
    if sorted(map(str, names)) != wanted:
        raise InvalidInput("inputs", names, f"each of {', '.join(wanted)} once")
    return entries


def _tensor_of(entry: Mapping[str, Any], spec: GraphSpec) -> RowSpec:
    tensor = next(tensor for tensor in spec.inputs if tensor.name == entry["name"])
    if entry.get("datatype") != tensor.datatype:
        raise InvalidInput(f"inputs[{tensor.name}].datatype", entry.get("datatype"), tensor.datatype)
    return tensor


def _items(entry: Mapping[str, Any], tensor: RowSpec, items: int) -> int:
    """The batch size that this input states, which must be the other inputs' (`items`, or -1 for
    the first).
    """
    shape = entry.get("shape")
    whole = isinstance(shape, list) and len(shape) > 0 and all(type(size) is int for size in shape)
    if not isinstance(shape, list) or not whole or tuple(shape[1:]) != tensor.shape or shape[0] < 1:
        raise InvalidInput(f"inputs[{tensor.name}].shape", shape, tensor.allowed)
    if items not in (-1, shape[0]):
        raise InvalidInput(
            f"inputs[{tensor.name}].shape", shape, f"{items} items, as in the inputs before it"
        )
    return int(shape[0])


def _values(data: Any, tensor: RowSpec, items: int) -> Array:
    field, count = f"inputs[{tensor.name}].data", items * math.prod(tensor.shape)
    if not isinstance(data, list):
        raise InvalidInput(field, data, f"a list of {count} {tensor.datatype} values")
    try:
        array = np.asarray(data)
    except ValueError:
        raise InvalidInput(
            field, "a ragged list", f"{count} values, flat or of shape {tensor.allowed}"
        ) from None
    if array.size != count or (array.ndim > 1 and array.shape != (items, *tensor.shape)):
        raise InvalidInput(field, list(array.shape), f"{count} values, flat or of shape {tensor.allowed}")
    kinds = {"b": "b", "f": "fiu"}.get(tensor.dtype.kind, "iu")
    if array.dtype.kind not in kinds:
        raise InvalidInput(field, _first_odd(data), f"{tensor.datatype} values")
    if array.dtype == tensor.dtype:
        return array
    with np.errstate(over="ignore", invalid="ignore"):
        cast = array.astype(tensor.dtype)
        if tensor.dtype.kind == "f" and math.isfinite(cast.sum()):
            return cast
    lost = ~np.isfinite(cast) if tensor.dtype.kind == "f" else cast != array
    if lost.any():
        raise InvalidInput(field, array[lost].flat[0].item(), f"{tensor.datatype} values within its range")
    return cast


def _first_odd(data: list[Any]) -> Any:
    flat = data
    while flat and isinstance(flat[0], list):
        flat = [value for row in flat for value in row]
    return next((value for value in flat if isinstance(value, bool) or not isinstance(value, int)), flat[:1])


def _binary_output(document: Mapping[str, Any], default: bool) -> bool:
    outputs = document.get("outputs")
    if isinstance(outputs, list) and outputs and isinstance(outputs[0], dict):
        asked = _mapping(outputs[0], "parameters", "outputs").get("binary_data")
        if isinstance(asked, bool):
            return asked
    asked = _mapping(document, "parameters", "body").get("binary_data_output")
    return asked if isinstance(asked, bool) else default


def _mapping(holder: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    value = holder.get(key, {})
    if not isinstance(value, dict):
        raise InvalidInput(f"{where}.{key}", value, "a JSON object")
    return value


def _id(document: Mapping[str, Any]) -> str | None:
    value = document.get("id")
    return None if value is None else str(value)
