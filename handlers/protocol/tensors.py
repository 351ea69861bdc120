"""Open Inference Protocol tensors ↔ numpy arrays, in JSON and in the binary extension's raw bytes.

Binary tensors are little-endian and row-major; a BYTES element is a 4-byte length and then its bytes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Union

import numpy as np

from handlers.errors import InvalidInput

if TYPE_CHECKING:
    from numpy.typing import NDArray

NUMPY_DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "INT8": np.dtype(np.int8),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype(object),
}
_JSON_KINDS = {"b": "b", "u": "iu", "i": "iu", "f": "iuf"}
_JSON_NAMES = {"b": "true or false", "u": "whole numbers", "i": "whole numbers", "f": "finite numbers"}
_SQUARES = {dtype: float(np.finfo(dtype).max) ** 2 for dtype in map(np.dtype, ("<f2", "<f4"))}
_SQUARES[np.dtype("<f8")] = math.inf
_LENGTH = struct.Struct("<I")


class Tensor(NamedTuple):
    """One named array; its datatype is the protocol's name and BYTES elements are Python `bytes`."""

    name: str
    dtype: str
    array: NDArray[Any]


Elements = Union["NDArray[Any]", list[str]]
"""A tensor's elements; those of a BYTES tensor may be a list of texts."""

Output = tuple[str, Elements]
"""A tensor that goes out under a known name: its datatype and its elements."""


def from_json(field: str, dtype: str, shape: Sequence[int], data: object) -> NDArray[Any]:
    """Decode JSON `data`, flat or nested. Raises InvalidInput for a wrong count, type or range, and NaN."""
    if not isinstance(data, list):
        raise InvalidInput(f"{field}.data", data, "a list of the tensor's elements")
    if dtype == "BYTES":
        return _reshaped(field, _json_bytes(field, data), shape)
    target = NUMPY_DTYPES[dtype]
    try:
        raw = np.array(data)
    except (ValueError, OverflowError) as error:  # numpy's word for ragged nesting
        raise InvalidInput(f"{field}.data", data, _allowed(dtype)) from error
    if raw.dtype.kind not in _JSON_KINDS[target.kind]:
        raise InvalidInput(f"{field}.data", data, _allowed(dtype))
    if target.kind in "iu" and raw.size:
        limits = np.iinfo(target)
        if raw.min() < limits.min or raw.max() > limits.max:
            raise InvalidInput(f"{field}.data", data, f"{_allowed(dtype)}: {limits.min} to {limits.max}")
    return _reshaped(field, _floats(field, raw, target) if target.kind == "f" else raw.astype(target), shape)


def _allowed(dtype: str) -> str:
    names = _JSON_NAMES[NUMPY_DTYPES[dtype].kind]
    return f"{names} of {dtype}, in a flat list or nested as the shape says"


def from_binary(field: str, dtype: str, shape: Sequence[int], chunk: memoryview) -> NDArray[Any]:
    """Decode raw bytes without copying. Raises InvalidInput when their number does not fit the shape."""
    count = math.prod(shape)
    if dtype == "BYTES":
        return _reshaped(field, _split_bytes(field, chunk, count), shape)
    target = NUMPY_DTYPES[dtype]
    if len(chunk) != count * target.itemsize:
        raise InvalidInput(
            f"{field}.parameters.binary_data_size",
            len(chunk),
            f"{count * target.itemsize} bytes, {count} elements of {dtype} as shape {list(shape)} says",
        )
    return checked_finite(f"{field} (binary)", np.frombuffer(chunk, dtype=target).reshape(shape))


def shape_of(elements: Elements) -> tuple[int, ...]:
    """The shape of a tensor; a list has one dimension."""
    return (len(elements),) if isinstance(elements, list) else elements.shape


def to_binary(dtype: str, elements: Elements) -> bytes:
    """Encode for the binary extension."""
    if isinstance(elements, list):
        array = np.array([text.encode() for text in elements], dtype=object)
    else:
        array = elements
    if dtype == "BYTES":
        return b"".join(_LENGTH.pack(len(item)) + item for item in array.ravel().tolist())
    return array.astype(NUMPY_DTYPES[dtype], copy=False).tobytes()


def to_json(dtype: str, elements: Elements) -> Elements:
    """What orjson writes as a flat list. BYTES that are not UTF-8 show the replacement character.

    JSON has neither NaN nor infinity: whoever sends an answer has looked for them.
    """
    if isinstance(elements, list):
        return elements
    flat = elements.ravel()
    if dtype == "BYTES":
        return [item.decode(errors="replace") for item in flat.tolist()]
    return flat


def checked_finite(field: str, array: NDArray[Any]) -> NDArray[Any]:
    """The array itself. Raises InvalidInput naming the first element that is NaN or infinite."""
    if not _all_finite(array):
        index = int(np.argmin(np.isfinite(array).ravel()))
        raise InvalidInput(f"{field}[{index}]", float(array.ravel()[index]), "finite numbers")
    return array


def _floats(field: str, raw: NDArray[Any], target: np.dtype[Any]) -> NDArray[Any]:
    """Whole numbers or FP64 as `target`. Raises InvalidInput for NaN and for what is too large for it."""
    wide = raw if raw.dtype.kind == "f" else raw.astype(np.float64)
    if np.vdot(wide, wide) < _SQUARES[target]:  # then no element is NaN or as large as the square root
        return wide.astype(target)
    with np.errstate(over="ignore"):
        return checked_finite(f"{field}.data", wide.astype(target))


def _all_finite(array: NDArray[Any]) -> bool:
    if array.dtype.kind != "f":
        return True
    # One pass without a temporary; a sum of squares that overflows is looked at again.
    return math.isfinite(np.vdot(array, array)) or bool(np.isfinite(array).all())


def _reshaped(field: str, array: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    if array.size != math.prod(shape):
        raise InvalidInput(
            f"{field}.data", f"{array.size} elements", f"{math.prod(shape)}, as shape {list(shape)} says"
        )
    return array.reshape(shape)


def _json_bytes(field: str, data: list[object]) -> NDArray[Any]:
    flat: list[object] = []
    for item in data:
        flat.extend(item if isinstance(item, list) else [item])
    array = np.empty(len(flat), dtype=object)
    for index, item in enumerate(flat):
        if not isinstance(item, str):
            raise InvalidInput(f"{field}.data[{index}]", item, "strings (raw bytes: the binary extension)")
        array[index] = item.encode(errors="surrogatepass")
    return array


def _split_bytes(field: str, chunk: memoryview, count: int) -> NDArray[Any]:
    array = np.empty(count, dtype=object)
    at = 0
    allowed = f"{count} elements, each a 4-byte little-endian length and so many bytes, and no more"
    for index in range(count):
        end = at + _LENGTH.size
        size = _LENGTH.unpack(chunk[at:end])[0] if end <= len(chunk) else len(chunk)
        if end + size > len(chunk):
            raise InvalidInput(f"{field} (binary)[{index}]", f"ends at byte {len(chunk)}", allowed)
        array[index] = bytes(chunk[end : end + size])
        at = end + size
    if at != len(chunk):
        raise InvalidInput(f"{field} (binary)", f"{len(chunk)} bytes, {at} used", allowed)
    return array
