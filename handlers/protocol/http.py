"""API Gateway's event, of an HTTP API (format 2.0) or a REST API (1.0) ↔ a request and a response."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from handlers.errors import InvalidInput, PayloadTooLarge

MAX_BODY_BYTES = 6 * 1024 * 1024
"""Lambda's payload limit each way; a compressed body may not grow beyond it either."""

MAX_RESULT_BYTES = MAX_BODY_BYTES - 64 * 1024
_FEWER = "an answer of less than 6 MB: ask for fewer items or outputs, or for binary ones"

FRONT = "front"
"""The caller of a function that a front invokes: the front accounts for the request."""

JSON_HEADERS = {"content-type": "application/json"}


class HttpRequest(NamedTuple):
    """One HTTP request; header names are lower-case, `caller` is whom a budget is charged to."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    caller: str


class HttpResponse(NamedTuple):
    """One HTTP response; `binary` bodies travel through API Gateway in base64."""

    status: int
    headers: dict[str, str]
    body: bytes
    binary: bool = False


def from_event(event: Mapping[str, Any]) -> HttpRequest:
    """Decode an event. Raises InvalidInput or PayloadTooLarge."""
    context = event["requestContext"]
    if "http" not in context:
        return _from_rest_event(event, context)
    path, stage = event["rawPath"], context.get("stage", "$default")
    if stage != "$default":
        path = path.removeprefix(f"/{stage}")
    headers = event.get("headers") or {}
    method = context["http"]["method"]
    return HttpRequest(method, path, headers, _body(event, headers), caller_of(context, headers))


def _from_rest_event(event: Mapping[str, Any], context: Mapping[str, Any]) -> HttpRequest:
    """Format 1.0: header names as the caller wrote them, and a path without the API's stage."""
    headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
    method, path = event["httpMethod"], event["path"]
    return HttpRequest(method, path, headers, _body(event, headers), caller_of(context, headers))


def to_result(response: HttpResponse) -> dict[str, Any]:
    """The function's result, alike in both formats. Raises PayloadTooLarge where Lambda would answer 502."""
    size = len(response.body)
    if size > MAX_RESULT_BYTES // 2:
        # As it travels: in base64, or as a JSON string with its quotes escaped.
        travels = size * 4 // 3 if response.binary else size + response.body.count(b'"')
        if travels > MAX_RESULT_BYTES:
            raise PayloadTooLarge("outputs", f"{size} bytes", _FEWER)
    body = base64.b64encode(response.body).decode("ascii") if response.binary else response.body.decode()
    return {
        "statusCode": response.status,
        "headers": response.headers,
        "body": body,
        "isBase64Encoded": response.binary,
    }


def json_response(
    document: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> HttpResponse:
    """A JSON response; NaN raises ValueError rather than leave as something that is not JSON."""
    body = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    return HttpResponse(status, {**JSON_HEADERS, **(headers or {})}, body)


def caller_of(context: Mapping[str, Any], headers: Mapping[str, str]) -> str:
    """Who calls: `jwt:<subject>`, `iam:<principal>`, `key:<hash of the API key>`, `anonymous`, or `FRONT`.

    API Gateway makes the context, so no caller of the API can pass for a front.
    """
    if context.get("accountedBy") == FRONT:
        return FRONT
    authorizer, identity = context.get("authorizer"), context.get("identity")
    if authorizer:
        subject = (authorizer.get("jwt") or {}).get("claims", {}).get("sub")
        if subject:
            return f"jwt:{subject}"
        identity = authorizer.get("iam") or identity
    if identity and identity.get("userArn"):
        return f"iam:{identity['userArn']}"
    key = headers.get("x-api-key")
    if key:
        return f"key:{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    return "anonymous"


def _body(event: Mapping[str, Any], headers: Mapping[str, str]) -> bytes:
    text: str = event.get("body") or ""
    if event.get("isBase64Encoded"):
        try:
            body = base64.b64decode(text, validate=True)
        except ValueError as error:
            raise InvalidInput("body", text[:40], "base64, as isBase64Encoded says") from error
    else:
        body = text.encode(errors="surrogatepass")
    encoding = headers.get("content-encoding", "identity")
    if encoding not in ("identity", ""):
        body = _inflated(body, encoding)
    if len(body) > MAX_BODY_BYTES:
        raise PayloadTooLarge("body", f"{len(body)} bytes", f"at most {MAX_BODY_BYTES} bytes")
    return body


def _inflated(body: bytes, encoding: str) -> bytes:
    if encoding not in ("gzip", "deflate"):
        raise InvalidInput("Content-Encoding", encoding, "gzip, deflate, identity")
    decompressor = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # tells gzip and zlib apart itself
    try:
        plain = decompressor.decompress(body, MAX_BODY_BYTES + 1)
    except zlib.error as error:
        raise InvalidInput("body", body[:20], f"{encoding}, as Content-Encoding says ({error})") from error
    if len(plain) <= MAX_BODY_BYTES and not decompressor.eof:
        raise InvalidInput("body", f"{len(body)} bytes", f"whole {encoding} data; it ends too early")
    return plain
