"""Reading one timestamp: ISO 8601, a web server's access-log form, or a number in s, ms, µs or ns."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
COLUMN_NAMES = (
    "timestamp", "time", "ts", "datetime", "date", "@timestamp", "arrival", "arrived_at", "arrival_time",
    "request_time", "requesttime", "start", "start_time", "time_local", "created_at", "epoch",
)  # fmt: skip
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_ACCESS_LOG = "%d/%b/%Y:%H:%M:%S %z"
_LONG_FRACTION = re.compile(r"(\.\d{6})\d+")


def parse(text: str) -> tuple[float, bool]:
    """A timestamp and whether it was a plain number (whose unit is not known yet).

    Dates give epoch seconds, taken as UTC without an offset. Raises `ValueError` if it is neither.
    """
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return float(text), True
    if text[:1] == "[":
        text = text.strip("[]")
    if len(text) > 11 and text[2:3] == "/":
        return datetime.strptime(text, _ACCESS_LOG).timestamp(), False
    stamp = datetime.fromisoformat(_LONG_FRACTION.sub(r"\1", text))
    return (stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)).timestamp(), False


def unit_of(values: NDArray[np.float64], column: str) -> str:
    """The unit that plain numbers are most likely in; the reader says which one it took.

    Epoch times tell it by their size, a column name by its ending; relative times are taken as ms when
    they are whole and at least 50 apart as a rule, or when as seconds they would span over a year.
    """
    for unit in ("ms", "us", "ns"):
        if column.lower().endswith(f"_{unit}"):
            return unit
    low, high = float(values.min()), float(values.max())
    for unit, factor in UNITS.items():
        if low * factor >= 9e8 and high * factor <= 4.2e9:
            return unit
    whole = bool(np.all(values == np.floor(values)))
    if high - low > 366 * 86400:
        return "ms"
    gaps = np.diff(np.unique(values))
    if whole and len(gaps) >= 2 and float(np.median(gaps)) >= 50:
        return "ms"
    return "s"


def resolution_of(times: NDArray[np.float64]) -> float:
    """The step in seconds that the source rounded its times to, if that is a second or more; else 0.

    Either all are whole seconds, or most arrivals share their time with others.
    """
    different = np.unique(times)
    if len(different) < 3:
        return 0.0
    usual = float(np.median(np.diff(different)))
    if usual >= 1.0 and len(times) >= 2 * len(different):
        return usual
    return 1.0 if np.all(times == np.floor(times)) else 0.0
