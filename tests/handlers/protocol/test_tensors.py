"""Tensors survive both encodings, whatever they hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from handlers.errors import InvalidInput
from handlers.protocol.infer import encode_outputs, parse_outputs
from handlers.protocol.tensors import NUMPY_DTYPES, Tensor, from_binary, from_json, to_binary, to_json

shapes = arrays.array_shapes(min_dims=1, max_dims=3, max_side=4)
NUMERIC = [name for name in NUMPY_DTYPES if name != "BYTES"]


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    dtype = draw(st.sampled_from(NUMERIC))
    target = NUMPY_DTYPES[dtype]
    options: dict[str, Any] = {"allow_nan": False, "allow_infinity": False} if target.kind == "f" else {}
    elements = arrays.from_dtype(target, **options)
    return Tensor("x", dtype, draw(arrays.arrays(target, shapes, elements=elements)))


@st.composite
def texts(draw: st.DrawFn) -> Tensor:
    shape = draw(shapes)
    flat = np.empty(int(np.prod(shape)), dtype=object)
    for index in range(len(flat)):
        flat[index] = draw(st.binary(max_size=6))
    return Tensor("x", "BYTES", flat.reshape(shape))


@given(st.one_of(tensors(), texts()))
def test_GIVEN_any_tensor_WHEN_through_binary_THEN_it_is_the_same(tensor: Tensor) -> None:
    shape = list(tensor.array.shape)

    back = from_binary("f", tensor.dtype, shape, memoryview(to_binary(tensor.dtype, tensor.array)))

    assert back.shape == tensor.array.shape
    np.testing.assert_array_equal(back, tensor.array)


@given(tensors())
def test_GIVEN_any_numbers_WHEN_through_json_THEN_they_are_the_same(tensor: Tensor) -> None:
    written = orjson.dumps(to_json(tensor.dtype, tensor.array), option=orjson.OPT_SERIALIZE_NUMPY)
    back = from_json("f", tensor.dtype, list(tensor.array.shape), orjson.loads(written))
    nested = from_json("f", tensor.dtype, list(tensor.array.shape), tensor.array.tolist())

    np.testing.assert_array_equal(back, tensor.array)
    np.testing.assert_array_equal(nested, tensor.array)


@given(st.lists(st.one_of(tensors(), texts()), min_size=1, max_size=3))
def test_GIVEN_any_outputs_WHEN_sent_and_read_THEN_they_are_the_same(given_tensors: list[Tensor]) -> None:
    named = [tensor._replace(name=str(index)) for index, tensor in enumerate(given_tensors)]

    body, size = encode_outputs(named)
    back = parse_outputs(body, str(size))

    for tensor in named:
        np.testing.assert_array_equal(back[tensor.name].array, tensor.array)


@given(st.sampled_from([*NUMERIC, "BYTES"]), st.binary(max_size=24))
def test_GIVEN_any_bytes_WHEN_decoded_THEN_an_array_or_invalid_input(dtype: str, raw: bytes) -> None:
    try:
        array = from_binary("f", dtype, [2], memoryview(raw))
    except InvalidInput:
        return
    assert array.shape == (2,)


@pytest.mark.parametrize(
    ("dtype", "value"), [("UINT8", 256), ("INT8", -129), ("INT32", 2**31), ("INT64", 2**64)]
)
def test_GIVEN_a_number_outside_its_type_WHEN_decoded_THEN_refused(dtype: str, value: int) -> None:
    with pytest.raises(InvalidInput, match=r"f\.data"):
        from_json("f", dtype, [1], [value])
