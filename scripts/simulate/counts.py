"""Traces that are counts per interval: a row an interval, or a column an interval and a row a function."""

from __future__ import annotations

import re
from collections.abc import Iterable
from math import isfinite

import numpy as np

from . import timestamps
from .rows import InvalidTrace, Options, Rows
from .trace import Trace, from_counts

COUNT_NAMES = ("count", "requests", "invocations", "calls", "n")
_INTERVAL = re.compile(r"(minute|min|m|second|sec|s)?_?(\d+)")
MAX_INTERVALS = 366 * 86400

Table = Iterable[tuple[int, list[str]]]


def is_wide(header: list[str]) -> bool:
    """Say whether the columns are intervals: at least three named minute_1, minute_2, … or 1, 2, …"""
    return len(_interval_columns(header)) >= 3


def count_column(header: list[str], time_column: int) -> int | None:
    """The column that holds counts, if there is one."""
    lower = [name.lower() for name in header]
    return next((lower.index(n) for n in COUNT_NAMES if n in lower and lower.index(n) != time_column), None)


def wide(name: str, table: Table, header: list[str], options: Options, rows: Rows) -> Trace:
    """Counts per minute (or second, if the columns say so), one row a function; `options.function` picks one.

    A function is named by any of its cells before the first interval, or by the number of its row from 1.
    """
    columns = _interval_columns(header)
    seconds = header[columns[0]].lower().startswith("s")
    total = np.zeros(len(columns))
    functions = picked = 0
    for line, row in table:
        functions += 1
        if len(row) != len(header):
            rows.bad(line, str(len(row)), f"{len(row)} cells", f"a row of {len(header)} columns")
            continue
        if options.function is not None and options.function not in (str(functions), *row[: columns[0]]):
            continue
        counted = [_count(row[at], line, header[at], rows) for at in columns]
        if any(value is None for value in counted):
            continue
        picked += 1
        total += np.array(counted, dtype=np.float64)
    if options.function is not None and not picked:
        raise InvalidTrace("--function", options.function, f"a row of {rows.name}, by its name or number")
    if not total.any():
        raise InvalidTrace("trace", rows.name, "counts with at least one request")
    interval_s = 1.0 if seconds else 60.0
    rows.notes.append(f"{picked} of {functions} functions, {len(columns)} intervals of {interval_s:g} s")
    return from_counts(name, total, interval_s, options.seed, rows.summary())


def long(
    name: str, table: Table, header: list[str], at: tuple[int, int], options: Options, rows: Rows
) -> Trace:
    """One row an interval: its time and its count; rows of the same time (several functions) are added."""
    time_at, count_at = at
    found: dict[float, float] = {}
    numeric = True
    for line, row in table:
        if len(row) <= max(at):
            rows.bad(line, header[max(at)], ",".join(row), f"a row of {len(header)} columns")
            continue
        try:
            moment, numeric = timestamps.parse(row[time_at])
        except ValueError:
            rows.bad(line, header[time_at], row[time_at], "a date and time, or a number")
            continue
        if not isfinite(moment) or moment < 0:
            rows.bad(line, header[time_at], row[time_at], "a finite time, zero or later")
            continue
        count = _count(row[count_at], line, header[count_at], rows)
        found[moment] = found.get(moment, 0.0) + (count or 0.0)  # a row left out still has its interval
    if not any(found.values()):
        raise InvalidTrace("trace", rows.name, "counts with at least one request")
    times = np.array(sorted(found))
    unit = options.time_unit or _unit(header[time_at], times, numeric)
    gaps = np.diff(times)
    step = float(gaps.min()) if len(gaps) else 1.0
    interval_s = step * (60.0 if unit == "minute" else timestamps.UNITS[unit])
    index = np.rint((times - times[0]) / step).astype(np.int64)
    if index[-1] >= MAX_INTERVALS:
        raise InvalidTrace("trace", rows.name, f"at most {MAX_INTERVALS} intervals")
    counted = np.zeros(int(index[-1]) + 1)
    np.add.at(counted, index, [found[moment] for moment in times])
    rows.notes.append(f"{len(counted)} intervals of {interval_s:g} s")
    return from_counts(name, counted, interval_s, options.seed, rows.summary())


def _unit(column: str, times: np.ndarray[tuple[int], np.dtype[np.float64]], numeric: bool) -> str:
    if not numeric:
        return "s"
    return "minute" if "min" in column.lower() else timestamps.unit_of(times, column)


def _interval_columns(header: list[str]) -> list[int]:
    found = [(at, _INTERVAL.fullmatch(name.lower())) for at, name in enumerate(header)]
    return [at for at, match in found if match]


def _count(text: str, line: int, column: str, rows: Rows) -> float | None:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if isfinite(value) and value >= 0:
        return value
    rows.bad(line, column, text, "a count, zero or more")
    return None
