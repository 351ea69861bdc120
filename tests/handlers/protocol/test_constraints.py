"""What callers ask for is read once, and never taken for what another asked."""

from __future__ import annotations

from typing import Any

import pytest

from handlers.errors import InvalidInput
from handlers.protocol.constraints import MAX_KNOWN, ConstraintReader
from handlers.routing.types import Path, Request


@pytest.fixture
def reader() -> ConstraintReader:
    return ConstraintReader(latency_slo_ms=600.0, attainment=0.99)


def asked(reader: ConstraintReader, **parameters: Any) -> Request:
    return Request(*reader.read(parameters, {"host": "localhost"}))


def test_GIVEN_parameters_WHEN_read_again_THEN_the_same(reader: ConstraintReader) -> None:
    first = asked(reader, path="cpu", latency_slo_ms=50, binary_data_output=True)

    assert first == Request(50.0, 0.99, path=Path.CPU)
    assert asked(reader, path="cpu", latency_slo_ms=50, binary_data_output=True) == first
    assert asked(reader) == Request(600.0, 0.99)


@pytest.mark.parametrize("bad", [True, None, float("nan"), "\ud800", [1]])
def test_GIVEN_a_good_value_WHEN_one_that_resembles_it_comes_THEN_refused(
    reader: ConstraintReader, bad: object
) -> None:
    asked(reader, latency_slo_ms=1)

    with pytest.raises(InvalidInput, match="latency_slo_ms"):
        asked(reader, latency_slo_ms=bad)


def test_GIVEN_known_parameters_WHEN_a_header_says_more_THEN_both_hold(reader: ConstraintReader) -> None:
    asked(reader, path="cpu")

    with_header = reader.read({"path": "cpu"}, {"x-turnout-latency-slo-ms": "50"})

    assert Request(*with_header) == Request(50.0, 0.99, path=Path.CPU)
    assert asked(reader, path="cpu") == Request(600.0, 0.99, path=Path.CPU)


def test_GIVEN_ever_new_parameters_WHEN_read_THEN_what_is_remembered_is_bounded_and_of_late(
    reader: ConstraintReader,
) -> None:
    for ms in range(1, 2 * MAX_KNOWN):
        assert asked(reader, latency_slo_ms=ms).latency_slo_ms == ms

    assert len(reader._known) <= MAX_KNOWN
    assert any(str(2 * MAX_KNOWN - 1).encode() in key for key in reader._known)
