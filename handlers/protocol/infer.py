"""Infer requests and responses of the Open Inference Protocol v2, with the binary tensor extension."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from handlers.errors import InvalidInput
from handlers.protocol import tensors
from handlers.protocol.tensors import Elements, Output, Tensor

if TYPE_CHECKING:
    from handlers.serving.manifest import TensorSpec

HEADER_LENGTH = "inference-header-content-length"
BINARY_TYPE = "application/octet-stream"
JSON_TYPE = "application/json"
_REQUEST_KEYS = dict.fromkeys(("id", "inputs", "outputs", "parameters"))
_INPUT_KEYS = dict.fromkeys(("name", "shape", "datatype", "data", "parameters"))
_OUTPUT_KEYS = dict.fromkeys(("name", "parameters"))
_OPTION_KEYS = {"binary_data": None}
_NO_BYTES = memoryview(b"")


class OutputRequest(NamedTuple):
    """An output that the caller wants, and whether as raw bytes."""

    name: str
    binary: bool


class InferRequest(NamedTuple):
    """A decoded request: `inputs` in the specs' order, `items` the batch size that they share."""

    id: str
    inputs: tuple[Tensor, ...]
    items: int
    outputs: tuple[OutputRequest, ...]
    parameters: Mapping[str, Any]


def parse_request(
    body: bytes | memoryview,
    header_length: str | None,
    specs: Sequence[TensorSpec],
    output_names: tuple[str, ...],
) -> InferRequest:
    """Decode and check a request against the model's inputs and outputs. Raises InvalidInput."""
    document, blob = split_body(body, header_length)
    _no_others("", document, _REQUEST_KEYS)
    parameters = _object("parameters", document.get("parameters"))
    inputs = _inputs(document.get("inputs"), blob, specs)
    items = len(inputs[0].array)
    if len(inputs) > 1:
        _one_batch(inputs, items)
    identity = document.get("id", "")
    if not isinstance(identity, str):
        raise InvalidInput("id", identity, "a string")
    outputs = _outputs(document.get("outputs"), parameters, output_names)
    return InferRequest(identity, inputs, items, outputs, parameters)


def split_body(body: bytes | memoryview, header_length: str | None) -> tuple[dict[str, Any], memoryview]:
    """Cut a body into its JSON object and the raw bytes behind it. Raises InvalidInput."""
    text, blob = body, _NO_BYTES
    if header_length is not None:
        size = len(body)
        if not header_length.isdecimal() or not 0 < int(header_length) <= size:
            raise InvalidInput(
                "Inference-Header-Content-Length", header_length, f"1 to {size}, the length of the body"
            )
        view, size = memoryview(body), int(header_length)
        text, blob = view[:size], view[size:]
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        document = _explained(bytes(text))
    if not isinstance(document, dict):
        raise InvalidInput("body", document, "a JSON object")
    return document, blob


def encode_request(inputs: Sequence[Tensor], *, binary_outputs: bool = False) -> tuple[bytes, int]:
    """A request that carries every tensor as raw bytes: the body, and the length of its JSON part."""
    head = {"parameters": {"binary_data_output": True}} if binary_outputs else {}
    return _joined(head, "inputs", [(t.name, t.dtype, t.array, True) for t in inputs])


def encode_outputs(outputs: Sequence[Tensor]) -> tuple[bytes, int]:
    """A bare response with every tensor as raw bytes, as `parse_outputs` reads it."""
    return _joined({}, "outputs", [(t.name, t.dtype, t.array, True) for t in outputs])


def encode_response(
    head: Mapping[str, Any], outputs: Mapping[str, Output], requested: Sequence[OutputRequest]
) -> tuple[bytes, int | None]:
    """A response with the requested outputs, in order: the body, and its JSON part's length if binary."""
    carried = [(name, *outputs[name], binary) for name, binary in requested]
    body, size = _joined(head, "outputs", carried)
    return body, size if size < len(body) else None


def parse_outputs(body: bytes, header_length: str | None) -> dict[str, Tensor]:
    """Decode the outputs of a response by name. Raises InvalidInput when it is not an infer response."""
    document, blob = split_body(body, header_length)
    entries = document.get("outputs")
    if not isinstance(entries, list):
        raise InvalidInput("outputs", entries, "a list of tensors")
    decoded = {}
    at = 0
    for index, entry in enumerate(entries):
        tensor, at = _tensor(f"outputs[{index}]", _object(f"outputs[{index}]", entry), blob, at, None)
        decoded[tensor.name] = tensor
    _no_rest(blob, at)
    return decoded


def _joined(
    head: Mapping[str, Any], key: str, carried: Sequence[tuple[str, str, Elements, bool]]
) -> tuple[bytes, int]:
    """Tensors as (name, datatype, elements, if as raw bytes) behind a head: the body, its JSON's length."""
    entries: list[dict[str, Any]] = []
    chunks: list[bytes] = []
    for name, dtype, elements, binary in carried:
        entry: dict[str, Any] = {"name": name, "datatype": dtype, "shape": tensors.shape_of(elements)}
        if binary:
            chunk = tensors.to_binary(dtype, elements)
            chunks.append(chunk)
            entry["parameters"] = {"binary_data_size": len(chunk)}
        else:
            entry["data"] = tensors.to_json(dtype, elements)
        entries.append(entry)
    header = orjson.dumps({**head, key: entries}, option=orjson.OPT_SERIALIZE_NUMPY)
    return b"".join((header, *chunks)) if chunks else header, len(header)


def _one_batch(inputs: Sequence[Tensor], items: int) -> None:
    for index, tensor in enumerate(inputs):
        if len(tensor.array) != items:
            raise InvalidInput(
                f"inputs[{index}].shape[0]", len(tensor.array), f"{items}, the batch of the first input"
            )


def _explained(text: bytes) -> Any:
    """What orjson refuses, the standard library reads or explains: NaN is refused later, by its field."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("body", text[:80], f"a JSON object ({error})") from error


def _inputs(entries: object, blob: memoryview, specs: Sequence[TensorSpec]) -> tuple[Tensor, ...]:
    if not isinstance(entries, list) or not entries:
        raise InvalidInput("inputs", entries, f"a list of tensors: {', '.join(spec.name for spec in specs)}")
    decoded: dict[str, Tensor] = {}
    at = 0
    for index, raw in enumerate(entries):
        field = f"inputs[{index}]"
        entry = _object(field, raw)
        _no_others(field, entry, _INPUT_KEYS)
        name = entry.get("name")
        for spec in specs:
            if spec.name == name and name not in decoded:
                break
        else:
            raise InvalidInput(f"{field}.name", name, f"each once: {', '.join(spec.name for spec in specs)}")
        decoded[spec.name], at = _tensor(field, entry, blob, at, spec)
    if len(decoded) != len(specs):
        raise InvalidInput("inputs", list(decoded), f"all of {', '.join(spec.name for spec in specs)}")
    _no_rest(blob, at)
    return tuple([decoded[spec.name] for spec in specs])


def _tensor(
    field: str, entry: Mapping[str, Any], blob: memoryview, at: int, spec: TensorSpec | None
) -> tuple[Tensor, int]:
    """Decode one tensor; `at` is where its raw bytes start, the second result where the next one's do."""
    dtype, shape = entry.get("datatype"), entry.get("shape")
    allowed_dtypes = tensors.NUMPY_DTYPES if spec is None else (spec.dtype,)
    if not isinstance(dtype, str) or dtype not in allowed_dtypes:
        raise InvalidInput(f"{field}.datatype", dtype, ", ".join(allowed_dtypes))
    checked = _shape(field, shape, spec)
    parameters = entry.get("parameters")
    size = None if parameters is None else _object(f"{field}.parameters", parameters).get("binary_data_size")
    if size is None:
        return Tensor(entry["name"], dtype, tensors.from_json(field, dtype, checked, entry.get("data"))), at
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(blob) - at:
        raise InvalidInput(
            f"{field}.parameters.binary_data_size", size, f"0 to {len(blob) - at}, the bytes that are left"
        )
    if "data" in entry:
        raise InvalidInput(f"{field}.data", entry["data"], "no data beside parameters.binary_data_size")
    array = tensors.from_binary(field, dtype, checked, blob[at : at + size])
    return Tensor(entry["name"], dtype, array), at + size


def _shape(field: str, shape: object, spec: TensorSpec | None) -> list[int]:
    wanted = spec.shape if spec is not None else (-1,) * len(shape) if isinstance(shape, list) else ()
    try:
        fits = _fits(wanted, *shape) if isinstance(shape, list) else False
    except TypeError:  # a list in the list is no key
        fits = False
    if not fits or not isinstance(shape, list):
        allowed = "a list of positive whole numbers"
        if spec is not None:
            allowed = f"{list(spec.shape)}, -1 being 1 or more"
        raise InvalidInput(f"{field}.shape", shape, allowed)
    if math.prod(shape) > 2**31:
        raise InvalidInput(f"{field}.shape", shape, "at most 2^31 elements")
    return shape


@lru_cache(typed=True)  # callers send the same shapes again and again; typed: 1.0 and true are not 1
def _fits(wanted: tuple[int, ...], *shape: object) -> bool:
    if len(shape) != len(wanted):
        return False
    for size, asked in zip(shape, wanted, strict=True):
        if type(size) is not int or size < 1 or (size != asked and asked != -1):
            return False
    return True


def _outputs(
    entries: object, parameters: Mapping[str, Any], names: tuple[str, ...]
) -> tuple[OutputRequest, ...]:
    default = _flag("parameters.binary_data_output", parameters.get("binary_data_output", False))
    if entries is None or entries == []:
        return _all_of(names, default)
    if not isinstance(entries, list):
        raise InvalidInput("outputs", entries, f"a list of outputs: {', '.join(names)}")
    wanted: list[OutputRequest] = []
    for index, raw in enumerate(entries):
        field = f"outputs[{index}]"
        entry = _object(field, raw)
        _no_others(field, entry, _OUTPUT_KEYS)
        name = entry.get("name")
        if name not in names:
            raise InvalidInput(f"{field}.name", name, ", ".join(names))
        options = _object(f"{field}.parameters", entry.get("parameters"))
        _no_others(f"{field}.parameters", options, _OPTION_KEYS)
        flag = _flag(f"{field}.parameters.binary_data", options.get("binary_data", default))
        wanted.append(OutputRequest(str(name), flag))
    return tuple(wanted)


@lru_cache
def _all_of(names: tuple[str, ...], binary: bool) -> tuple[OutputRequest, ...]:
    return tuple(OutputRequest(name, binary) for name in names)


def _flag(field: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidInput(field, value, "true or false")
    return value


def _object(field: str, value: object) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidInput(field, value, "a JSON object")
    return value


def _no_others(field: str, entry: Mapping[str, Any], allowed: dict[str, None]) -> None:
    if not entry.keys() <= allowed.keys():
        key = next(key for key in entry if key not in allowed)
        raise InvalidInput(f"{field}.{key}" if field else key, entry[key], f"keys {', '.join(allowed)}")


def _no_rest(blob: memoryview, at: int) -> None:
    if at != len(blob):
        raise InvalidInput(
            "body", f"{len(blob)} bytes after the JSON", f"{at}, the sum of the tensors' binary_data_size"
        )
