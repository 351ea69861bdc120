"""Traces are read from whatever people have, and a row that makes no sense is named by line and column."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from handlers.errors import InvalidInput
from scripts.simulate.readers import read
from scripts.simulate.rows import InvalidTrace, Options


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "times"),
    [
        ("TIMESTAMP,Tokens\n2023-11-16 18:15:46.5,3\n2023-11-16 18:15:47.7500000,4\n", [0.0, 1.25]),
        ("id,ts_ms\na,1000\nb,3500\n", [0.0, 2.5]),
        ("time\n1700000000.5\n1700000001.5\n", [0.0, 1.0]),
        ("1700000000123\n1700000001123\n", [0.0, 1.0]),
        ('{"timestamp": 0.5}\n\n{"timestamp": 2.5}\n', [0.0, 2.0]),
        ('{"at": 1, "time": "2024-01-01T00:00:00.25Z"}\n{"time": "2024-01-01T00:00:01.25Z"}\n', [0.0, 1.0]),
    ],
)
def test_each_kind_of_file_is_recognised(tmp_path: Path, text: str, times: list[float]) -> None:
    """Given CSV with and without header, dates, epochs in any unit, or JSONL, then the times are found."""
    trace = read(written(tmp_path, "trace.txt", text))
    assert trace.times == pytest.approx(times)


def test_an_access_log_is_read(tmp_path: Path) -> None:
    """Given a web server's log in the common form, then its times are found, spread inside their second."""
    line = '1.2.3.4 - - [10/Oct/2025:13:55:{:02d} +0200] "POST /v2 HTTP/1.1" 200 12\n'
    trace = read(written(tmp_path, "access.log", "".join(line.format(s) for s in (1, 1, 2, 5))))
    assert trace.requests == 4
    assert trace.counts().tolist()[0] >= 1
    assert 3.0 <= trace.times[-1] <= 5.0


def test_gzip_and_plain_are_the_same(tmp_path: Path) -> None:
    """Given the same rows packed and plain, under names that do not say so, then the traces are equal."""
    text = "time\n" + "".join(f"{i * 0.25}\n" for i in range(50))
    plain = written(tmp_path, "a.csv", text)
    packed = tmp_path / "b.csv"
    packed.write_bytes(gzip.compress(text.encode()))
    assert np.array_equal(read(plain).times, read(packed).times)


def test_times_out_of_order_are_sorted_and_said(tmp_path: Path) -> None:
    """Given rows in any order and duplicates, then all are kept, in order, with a note."""
    trace = read(written(tmp_path, "t.csv", "time\n5.5\n1.25\n5.5\n2.75\n"))
    assert trace.times == pytest.approx([0.0, 1.5, 4.25, 4.25])
    assert any("sorted" in note for note in trace.notes)


def test_one_request_is_a_trace(tmp_path: Path) -> None:
    """Given a single row, then there is a trace of one request and at least a second."""
    trace = read(written(tmp_path, "t.csv", "time\n7.5\n"))
    assert (trace.requests, trace.duration_s) == (1, 1.0)


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("time,x\n1.5,1\nnever,2\n", "line 3", "column time"),
        ("time\n1.5\n-2\n", "line 3", "column time"),
        ("time\n1.5\ninf\n", "line 3", "column time"),
        ("a,time\n1,2.5\n3\n", "line 3", "column time"),
        ("time\n2024-01-01T00:00:00\n17.5\n", "line 3", "column time"),
        ('{"time": 1.5}\n{"time": \n', "line 2", "column 9"),
        ('{"time": 1.5}\n{"other": 2}\n', "line 2", "column time"),
        ('{"time": 1.5}\n[2]\n', "line 2", "column 1"),
        ('{"time": 1.5}\n{"time": [1]}\n', "line 2", "column time"),
        ("minute_1,minute_2,minute_3\n1,x,3\n", "line 2", "column minute_2"),
        ("time,count\n0,1\n60,-3\n", "line 3", "column count"),
    ],
)
def test_a_bad_row_is_named_or_skipped_and_counted(tmp_path: Path, text: str, line: str, column: str) -> None:
    """Given a row that makes no sense, then it is refused with line and column, or skipped with a count."""
    path = written(tmp_path, "t.csv", text)
    with pytest.raises(InvalidTrace, match=f"{line}, {column}"):
        read(path)
    if "minute_1" not in text:
        trace = read(path, Options(skip_malformed=True))
        assert any("1 malformed row skipped" in note for note in trace.notes)


def test_bad_rows_of_other_forms_are_named_or_skipped_too(tmp_path: Path) -> None:
    """Given an access log, and a table with a row a function, then their bad rows are told as well."""
    log = "\n".join(
        f'1.2.3.4 - - [{day}/Oct/2024:13:55:36 +0000] "GET / HTTP/1.1" 200 1' for day in (10, 99, 11)
    )
    for text, column in ((log, "time"), ("f,1,2,3\na,1,1,1\nb,1,,1\n", "2")):
        (tmp_path / "t.gz").write_bytes(gzip.compress(text.encode()))
        line = 2 if column == "time" else 3
        with pytest.raises(InvalidTrace, match=f"t.gz, line {line}, column {column}"):
            read(tmp_path / "t.gz")
        assert any(
            "1 malformed row skipped" in n
            for n in read(tmp_path / "t.gz", Options(skip_malformed=True)).notes
        )


def test_a_count_that_is_left_out_keeps_its_interval(tmp_path: Path) -> None:
    """Given every second count malformed, then the intervals stay what they were."""
    path = written(tmp_path, "t.csv", "minute,count\n0,5\n1,x\n2,7\n")
    trace = read(path, Options(skip_malformed=True))
    assert (trace.requests, trace.duration_s) == (12, 180.0)


@pytest.mark.parametrize("text", ["", "\n\n", "time\n", "time,count\n0,0\n", "a,b\nx,y\n"])
def test_nothing_to_read_is_refused(tmp_path: Path, text: str) -> None:
    """Given a file without a request, or without a time column, then it is refused."""
    with pytest.raises(InvalidTrace):
        read(written(tmp_path, "t.csv", text))


def test_files_that_are_no_text_or_not_there_are_refused(tmp_path: Path) -> None:
    """Given a missing file, broken gzip, or bytes that are no text, then the error says so."""
    (tmp_path / "broken.gz").write_bytes(b"\x1f\x8bnot really")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x01" * 10)
    for name in ("missing", "broken.gz", "binary"):
        with pytest.raises(InvalidTrace):
            read(tmp_path / name)


def test_counts_per_interval_long_and_wide(tmp_path: Path) -> None:
    """Given counts per minute as rows, or as columns per function, then arrivals lie in their minutes."""
    long = read(written(tmp_path, "long.csv", "minute,count\n1,3\n2,0\n3,5\n"))
    assert long.counts(60.0).tolist() == [3, 0, 5]
    wide = written(tmp_path, "wide.csv", "name,minute_1,minute_2,minute_3\nf,1,0,2\ng,2,0,3\n")
    assert read(wide).counts(60.0).tolist() == [3, 0, 5]
    assert read(wide, Options(function="g")).counts(60.0).tolist() == [2, 0, 3]
    assert read(wide, Options(function="1")).counts(60.0).tolist() == [1, 0, 2]
    with pytest.raises(InvalidTrace, match="--function"):
        read(wide, Options(function="h"))


def test_relative_milliseconds_are_told_from_seconds(tmp_path: Path) -> None:
    """Given whole numbers thousands apart, then they are taken as ms, and a note says so."""
    text = "".join(f'{{"timestamp": {i // 3 * 3000}}}\n' for i in range(30))
    path = written(tmp_path, "t.jsonl", text)
    trace = read(path)
    assert trace.step_s == 3.0
    assert 27.0 <= trace.duration_s <= 30.0
    assert any("taken as ms" in note for note in trace.notes)
    assert read(path, Options(time_unit="s")).duration_s > 27_000
    with pytest.raises(InvalidInput, match="--time-unit"):
        Options(time_unit="hours")
