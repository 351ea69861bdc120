"""Open Inference Protocol bodies and answers: a request becomes a layout, which says where its tensors lie.

A binary body is decoded without touching the tensors' bytes. A JSON body's values are written over its own
text, so that both kinds look the same from there on.
`handlers.protocol` is the API's codec; this one is the hot loop of a server that answers thousands a
second, so it reads one known graph and knows nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import simdjson

from handlers.errors import InvalidInput, PayloadTooLarge
from model_build.gpu_server.spec import GraphSpec, RowSpec

BINARY_TYPE = "application/vnd.sagemaker-triton.binary+json"
HEADER_SIZE = "json-header-size="
Array = npt.NDArray[Any]


# What simdjson copies a list of numbers out as, by the kind of the tensor's dtype; BOOL goes the long way.
PARSER = simdjson.Parser()  # its memory is used again: nothing of a document outlives `_scan`
BUFFERS = {"f": ("d", np.float64), "i": ("i", np.int64), "u": ("i", np.int64)}


@dataclass(frozen=True, slots=True)
class Layout:
    """A decoded request: items, and each input's first byte counted from the start of the body."""

    items: int
    offsets: tuple[int, ...]
    binary_output: bool
    id: str | None


Done = Callable[[Layout | Exception], None]


@lru_cache(maxsize=1024)
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


def decode_json(slot: memoryview, length: int, spec: GraphSpec) -> Layout:
    """Decode the text in the first `length` bytes of `slot` and lay its values over it, as a binary body has
    them.

    Raises InvalidInput naming the field, the value and what is allowed, PayloadTooLarge when the values need
    more room than `slot`.
    """
    text = bytes(slot[:length])
    try:
        document: Mapping[str, Any] = _scan(text, spec)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        document = _document(text)  # not what is usually sent: the checks below say whether it is allowed
    items, data = -1, {}
    for entry in _entries(document, spec):
        tensor = _tensor_of(entry, spec)
        items = _items(entry, tensor, items)
        data[tensor.name] = entry.get("data")
    size = items * spec.item_bytes
    if size > len(slot):
        raise PayloadTooLarge("inputs", f"{size} bytes as binary", f"at most {len(slot)} bytes")
    offsets, at = [], 0
    for tensor in spec.inputs:
        values = _values(data[tensor.name], tensor, items)
        slot[at : at + values.nbytes] = values.reshape(-1).view(np.uint8).data
        offsets.append(at)
        at += values.nbytes
    return Layout(items, tuple(offsets), _binary_output(document, False), _id(document))


def _scan(text: bytes, spec: GraphSpec) -> dict[str, Any]:
    """The document with each input's `data` as an array, without a Python object for each number.

    Raises one of many kinds when a `data` is not a flat list of numbers, or anything is not as expected.
    """
    scanned: Any = PARSER.parse(text)
    document: dict[str, Any] = {key: _plain(scanned[key]) for key in scanned if key != "inputs"}
    entries: list[dict[str, Any]] = []
    document["inputs"] = entries
    dtypes = {tensor.name: tensor.dtype for tensor in spec.inputs}
    for source in scanned["inputs"]:
        entry = {key: _plain(source[key]) for key in source if key != "data"}
        code, dtype = BUFFERS[dtypes[entry["name"]].kind]
        data = source["data"]
        if not isinstance(data[0], int | float):
            raise TypeError("nested")
        entry["data"] = np.frombuffer(data.as_buffer(of_type=code), dtype)
        entries.append(entry)
    return document


def _plain(value: Any) -> Any:
    if isinstance(value, simdjson.Object):
        return value.as_dict()
    return value.as_list() if isinstance(value, simdjson.Array) else value


def encode(
    spec: GraphSpec, output: bytes, items: int, binary: bool, request_id: str | None, nonfinite: Sequence[int]
) -> tuple[bytes, bytes]:
    """(content type, body) of an answer; `output` holds the graph's output for `items` items.

    `nonfinite` lists items whose output holds NaN or infinity: they are named in `parameters`, and are null
    in JSON.
    """
    if binary:
        header = _binary_header if nonfinite else _usual_header
        content, start = header(spec, len(output), items, request_id, tuple(nonfinite))
        return content, start + output
    data = np.frombuffer(output, spec.output.dtype)
    document = _answer_document(spec, items, request_id, nonfinite, {"data": data})
    return b"application/json", orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def _answer_document(
    spec: GraphSpec, items: int, request_id: str | None, nonfinite: Sequence[int], rest: dict[str, Any]
) -> dict[str, Any]:
    tensor = spec.output
    entry = {"name": tensor.name, "datatype": tensor.datatype, "shape": (items, *tensor.shape), **rest}
    document: dict[str, Any] = {"model_name": spec.model, "model_version": spec.release, "outputs": (entry,)}
    if request_id is not None:
        document["id"] = request_id
    if nonfinite:
        document["parameters"] = {"nonfinite_items": nonfinite}
    return document


def _binary_header(
    spec: GraphSpec, size: int, items: int, request_id: str | None, nonfinite: tuple[int, ...]
) -> tuple[bytes, bytes]:
    """(content type, JSON header) of a binary answer with `size` bytes of output."""
    rest = {"parameters": {"binary_data_size": size}}
    header = orjson.dumps(_answer_document(spec, items, request_id, nonfinite, rest))
    return f"{BINARY_TYPE};{HEADER_SIZE}{len(header)}".encode(), header


_usual_header = lru_cache(maxsize=1024)(_binary_header)


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
    if not isinstance(data, list | np.ndarray):
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
    mixed = "b" not in kinds and isinstance(data, list) and _has_bool(data)  # numpy makes numbers of them
    if array.dtype.kind not in kinds or mixed:
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


def _has_bool(data: list[Any]) -> bool:
    return any(isinstance(value, bool) or (isinstance(value, list) and _has_bool(value)) for value in data)


def _first_odd(data: Any) -> Any:
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
