"""Reading traces from files: CSV, JSONL, counts per interval (also per function), access logs; gzip or plain.

What a file holds is found from its first lines, never from its name. A row that makes no sense is refused
with its line and column, or skipped and counted when the caller asks for that.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from . import counts, timestamps
from .rows import InvalidTrace, Options, Rows
from .trace import Trace, from_times

_ACCESS_TIME = re.compile(r"\[(\d{2}/\w{3}/\d{4}:\d{2}:\d{2}:\d{2} [+-]\d{4})\]")


def read(path: Path, options: Options = Options()) -> Trace:
    """Read a trace from a file; raises `InvalidTrace` where it cannot be read."""
    rows = Rows(path.name, options.skip_malformed)
    with open_text(path) as lines:
        head = lines.readline()
        while head and not head.strip():
            head = lines.readline()
        lines.seek(0)
        if not head:
            raise InvalidTrace("trace", path.name, "a file with at least one request; it is empty")
        if head.lstrip()[:1] == "{":
            return _times(path.stem, _json_rows(lines, options, rows), options, rows)
        if _ACCESS_TIME.search(head):
            return _times(path.stem, _access_log_rows(lines, rows), options, rows)
        return _csv(path, lines, options, rows)


def open_text(path: Path) -> io.TextIOWrapper:
    """Open a text file, unpacked if it is gzip; raises `InvalidTrace` when it is missing or not text."""
    if not path.is_file():
        raise InvalidTrace("trace", str(path), "a file that exists")
    raw = path.read_bytes()
    try:
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8-sig")
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InvalidTrace("trace", path.name, f"UTF-8 text, plain or gzip ({error})") from error
    return io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8", newline="")


Row = tuple[int, str, str]


def _json_rows(lines: io.TextIOWrapper, options: Options, rows: Rows) -> Iterator[Row]:
    column = options.time_column
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            body = json.loads(line.rstrip())
        except json.JSONDecodeError as error:
            rows.bad(number, str(error.colno), line.strip(), "a JSON object per line")
            continue
        if not isinstance(body, dict):
            rows.bad(number, "1", line.strip(), "a JSON object per line")
            continue
        if column is None:
            column = _found([str(key) for key in body], rows.name)
        value = body.get(column)
        if value is None or isinstance(value, bool | dict | list):
            rows.bad(number, column, value, "a timestamp")
            continue
        yield number, column, str(value)


def _access_log_rows(lines: io.TextIOWrapper, rows: Rows) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        found = _ACCESS_TIME.search(line)
        if found:
            yield number, "time", found.group(1)
        elif line.strip():
            rows.bad(number, "1", line.strip(), "an access log line with [day/Month/year:time zone]")


def _csv(path: Path, lines: io.TextIOWrapper, options: Options, rows: Rows) -> Trace:
    table = numbered(lines)
    _, first = next(table)
    header = [name.strip() for name in first]
    if _is_time(header[0]):
        names = ["time", *(f"column {i}" for i in range(2, len(header) + 1))]
        again = itertools.chain([(1, first)], table)
        return _times(path.stem, _csv_rows(again, names, 0, rows), options, rows)
    if counts.is_wide(header):
        return counts.wide(path.stem, table, header, options, rows)
    at = _column(header, options, rows.name)
    counted = counts.count_column(header, at)
    if counted is not None:
        return counts.long(path.stem, table, header, (at, counted), options, rows)
    return _times(path.stem, _csv_rows(table, header, at, rows), options, rows)


def numbered(lines: io.TextIOWrapper) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV file that are not empty, each with the number of its line."""
    reader = csv.reader(lines)
    for row in reader:
        if row:
            yield reader.line_num, row


def _csv_rows(
    table: Iterable[tuple[int, list[str]]], header: list[str], at: int, rows: Rows
) -> Iterator[Row]:
    for line, row in table:
        if len(row) <= at:
            rows.bad(line, header[at], ",".join(row), f"a row of {len(header)} columns")
        else:
            yield line, header[at], row[at]


def _times(name: str, found: Iterator[Row], options: Options, rows: Rows) -> Trace:
    values: list[float] = []
    numeric: bool | None = None
    column = ""
    for line, column, text in found:
        try:
            value, is_number = timestamps.parse(text)
        except ValueError:
            rows.bad(line, column, text, "a date and time, or a number")
            continue
        if not np.isfinite(value) or value < 0:
            rows.bad(line, column, text, "a finite time, zero or later")
            continue
        if numeric is None:
            numeric = is_number
        if is_number != numeric:
            rows.bad(line, column, text, "the same kind of timestamp as the rows above")
            continue
        values.append(value)
    if not values:
        raise InvalidTrace("trace", rows.name, "at least one readable request")
    times = np.array(values)
    if not numeric:
        return from_times(
            name, times, step_s=timestamps.resolution_of(times), notes=rows.summary(), seed=options.seed
        )
    unit = options.time_unit or timestamps.unit_of(times, column)
    if options.time_unit is None:
        rows.notes.append(f"times in column {column} taken as {unit} (--time-unit to change)")
    factor = timestamps.UNITS[unit]
    coarse = timestamps.resolution_of(times * factor)
    return from_times(name, times * factor, step_s=coarse, notes=rows.summary(), seed=options.seed)


def _column(header: list[str], options: Options, name: str) -> int:
    if options.time_column is not None:
        if options.time_column not in header:
            raise InvalidTrace("--time-column", options.time_column, ", ".join(header))
        return header.index(options.time_column)
    return header.index(_found(header, name))


def _found(names: list[str], where: str) -> str:
    lower = {name.lower(): name for name in reversed(names)}
    for known in timestamps.COLUMN_NAMES:
        if known in lower:
            return lower[known]
    for name in names:
        if re.search(r"time|date|(^|_)ts(_|$)|minute|second", name.lower()):
            return name
    raise InvalidTrace(where, names, "a column that holds the time: name it with --time-column")


def _is_time(text: str) -> bool:
    try:
        timestamps.parse(text)
    except ValueError:
        return False
    return True
