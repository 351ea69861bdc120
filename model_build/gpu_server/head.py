"""The head of an HTTP/1.1 message; a request's is parsed once for each head that differs.

A client that keeps its connection repeats its head from request to request; only the custom attributes, which
carry what is left of the deadline, change each time. They are cut out, and the rest is looked up.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus

import httptools

ATTRIBUTES = b"\r\nx-amzn-sagemaker-custom-attributes:"
REASONS = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """What the server reads of a head. `length`: of the body, in bytes; `header_length`: as it was sent."""

    method: str
    path: str
    content_type: str
    accept: str
    header_length: str | None
    length: int
    keep_alive: bool
    expects_continue: bool


def read_head(raw: bytes) -> tuple[Head, bytes]:
    """The head in `raw`, which ends in an empty line, and the value of its custom attributes.

    Raises httptools.HttpParserError when it is malformed, ValueError when the body has no stated length.
    """
    start = raw.lower().find(ATTRIBUTES)
    if start < 0:
        return _parse(raw), b""
    end = raw.index(b"\r\n", start + len(ATTRIBUTES))
    value = raw[start + len(ATTRIBUTES) : end]
    if b"\n" in value:
        raise httptools.HttpParserError("a line of the head ends without a carriage return")
    return _parse(raw[:start] + raw[end:]), value


def head_lines(status: int, content_type: bytes, length: int) -> bytes:
    """The status line and the headers of an answer with `length` bytes, each with its line end."""
    return b"%bContent-Type: %b\r\nContent-Length: %d\r\n" % (REASONS[status], content_type, length)


@lru_cache(maxsize=1024)
def _parse(raw: bytes) -> Head:
    collected = _Collector()
    parser = httptools.HttpRequestParser(collected)
    parser.feed_data(raw)
    headers = collected.headers
    if "transfer-encoding" in headers:
        raise ValueError("Transfer-Encoding: not accepted; send the body with a Content-Length")
    return Head(
        method=parser.get_method().decode("ascii"),
        path=collected.url.decode("latin-1").partition("?")[0],
        content_type=headers.get("content-type", ""),
        accept=headers.get("accept", ""),
        header_length=headers.get("inference-header-content-length"),
        length=int(headers.get("content-length", "0")),
        keep_alive=parser.get_http_version() == "1.1" and headers.get("connection", "").lower() != "close",
        expects_continue=headers.get("expect", "").lower() == "100-continue",
    )


class _Collector:
    """Collects what httptools calls back with."""

    def __init__(self) -> None:
        self.url = b""
        self.headers: dict[str, str] = {}

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower().decode("latin-1")] = value.decode("latin-1")
