"""JSON bodies become the layout that binary ones have, in their own place."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.errors import InvalidInput, PayloadTooLarge
from model_build.gpu_server import wire
from model_build.gpu_server.spec import GraphSpec, from_json


def spec_of(*tensors: tuple[str, str, list[int]]) -> GraphSpec:
    return from_json(json.dumps({"model": "m", "release": "r", "tensors": [*tensors, ("y", "FP32", [1])]}))


def decode(inputs: list[dict[str, Any]], spec: GraphSpec, room: int = 0) -> tuple[wire.Layout, bytearray]:
    text = json.dumps({"inputs": inputs}).encode()
    slot = bytearray(text + b"\0" * (room or 4096))
    if room:
        slot = slot[:room]
    return wire.decode_json(memoryview(slot), len(text), spec), slot


def tensor(name: str, datatype: str, shape: list[int], data: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2, max_size=8))
def test_floats_survive_flat_and_nested(values: list[float]) -> None:
    values = values[: len(values) // 2 * 2]
    spec = spec_of(("x", "FP32", [2]))
    wanted = np.array(values, np.float32).tobytes()
    rows = np.array(values).reshape(-1, 2).tolist()
    for data in (values, rows):
        layout, slot = decode([tensor("x", "FP32", [len(values) // 2, 2], data)], spec)
        assert layout.items == len(values) // 2
        assert bytes(slot[layout.offsets[0] :][: len(wanted)]) == wanted


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=8))
def test_whole_numbers_keep_every_bit(values: list[int]) -> None:
    layout, slot = decode([tensor("x", "INT64", [len(values)], values)], spec_of(("x", "INT64", [])))
    assert np.frombuffer(slot, np.int64, len(values), layout.offsets[0]).tolist() == values


def test_several_inputs_in_any_order_lie_one_after_the_other() -> None:
    spec = spec_of(("a", "INT8", [2]), ("b", "FP16", [1]), ("c", "BOOL", []))
    sent = [
        tensor("c", "BOOL", [2], [True, False]),
        tensor("b", "FP16", [2, 1], [0.5, 2]),
        tensor("a", "INT8", [2, 2], [1, -2, 3, 127]),
    ]
    layout, slot = decode(sent, spec)
    assert layout.offsets == (0, 4, 8)
    assert bytes(slot[:10]) == (
        np.array([1, -2, 3, 127], np.int8).tobytes() + np.array([0.5, 2], np.float16).tobytes() + b"\x01\0"
    )


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("FP32", [1, True]),
        ("FP32", [1, None]),
        ("FP32", [1, "2"]),
        ("FP32", [1]),
        ("FP32", [1, 2, 3]),
        ("FP32", [1, 1e39]),
        ("FP32", {"0": 1}),
        ("INT8", [1, 128]),
        ("INT64", [1, 2.5]),
        ("INT64", [1, 2**63]),
        ("UINT8", [1, -1]),
        ("BOOL", [1, 0]),
    ],
)
def test_what_the_datatype_does_not_allow_is_refused_by_name(datatype: str, data: Any) -> None:
    with pytest.raises(InvalidInput, match=r"inputs\[x\]\.data: .* is not allowed; allowed: "):
        decode([tensor("x", datatype, [2], data)], spec_of(("x", datatype, [])))


def test_a_whole_number_beyond_64_bits_is_a_float() -> None:
    layout, slot = decode([tensor("x", "FP64", [1], [10**30])], spec_of(("x", "FP64", [])))
    assert np.frombuffer(slot, np.float64, 1, layout.offsets[0]) == 1e30


def test_values_that_need_more_room_than_the_slot_are_too_large() -> None:
    with pytest.raises(PayloadTooLarge, match="at most 300 bytes"):
        decode([tensor("x", "FP64", [60], [1] * 60)], spec_of(("x", "FP64", [])), room=300)
