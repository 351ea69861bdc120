"""API Gateway's HTTP API, payload format 2.0: an HTTP request to the event a function gets, and back.

Pure. Format and limits: AWS, "Working with AWS Lambda proxy integrations for HTTP APIs" and "Quotas for
configuring and running an HTTP API".
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, unquote

ACCOUNT_ID = "123456789012"
MAX_REQUEST_BYTES = 10 * 1024 * 1024
MAX_INVOKE_BYTES = 6 * 1024 * 1024
TEXT_TYPES = ("text/", "application/json", "application/xml", "application/javascript")


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request as it came: `path` still percent-encoded, header names as sent."""

    method: str
    path: str
    query: str
    headers: Sequence[tuple[str, str]]
    body: bytes
    source_ip: str
    protocol: str = "HTTP/1.1"


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """What goes back to the caller."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes


@dataclass(frozen=True, slots=True)
class Route:
    """One route of a deployed API; `key` is such as `POST /v2/{proxy+}` or `$default`.

    `authorization` is API Gateway's word: NONE, AWS_IAM or JWT.
    """

    key: str
    integration_uri: str
    authorization: str = "NONE"


@dataclass(frozen=True, slots=True)
class Api:
    """A deployed API and its one stage; `kind` is http or rest."""

    api_id: str
    name: str
    stage: str
    stage_variables: Mapping[str, str]
    routes: Sequence[Route]
    kind: str = "http"


@dataclass(frozen=True, slots=True)
class Flavour:
    """What differs between the two kinds of API: their formats, their patience, their own error answers."""

    event: Callable[
        [HttpRequest, Api, Route, Mapping[str, str], str, datetime, Mapping[str, Any] | None], dict[str, Any]
    ]
    response: Callable[[bytes], HttpResponse]
    timeout_s: float
    no_route: HttpResponse
    late: HttpResponse
    throttled: HttpResponse
    failed: HttpResponse


def message(status: int, text: str, **more: str) -> HttpResponse:
    """One of API Gateway's own error bodies: `{"message": …}`."""
    body = json.dumps({"message": text, **more}).encode()
    return HttpResponse(status, [("content-type", "application/json")], body)


def match(routes: Iterable[Route], method: str, path: str) -> tuple[Route, dict[str, str]] | None:
    """The most specific route: exact segments, then {names}, then a greedy {name+}; `$default` last."""
    found: list[tuple[tuple[int, ...], Route, dict[str, str]]] = []
    for route in routes:
        if route.key == "$default":
            found.append(((9,), route, {}))
            continue
        verb, _, pattern = route.key.partition(" ")
        parameters = match_path(pattern, path) if verb in (method, "ANY") else None
        if parameters is not None:
            rank = tuple(specificity(segment) for segment in pattern.strip("/").split("/"))
            found.append(((*rank, int(verb == "ANY")), route, parameters))
    if not found:
        return None
    _, route, parameters = min(found, key=lambda candidate: candidate[0])
    return route, parameters


def specificity(segment: str) -> int:
    if not segment.startswith("{"):
        return 0
    return 2 if segment.endswith("+}") else 1


def match_path(pattern: str, path: str) -> dict[str, str] | None:
    """The path parameters when `path` fits `pattern`, else None."""
    parameters: dict[str, str] = {}
    wanted, given = pattern.strip("/").split("/"), path.strip("/").split("/")
    for index, segment in enumerate(wanted):
        if segment.startswith("{") and segment.endswith("+}"):
            rest = "/".join(given[index:])
            return {**parameters, segment[1:-2]: unquote(rest)} if rest else None
        if index >= len(given):
            return None
        if segment.startswith("{"):
            parameters[segment[1:-1]] = unquote(given[index])
        elif segment != given[index]:
            return None
    return parameters if len(wanted) == len(given) else None


def event(
    request: HttpRequest,
    api: Api,
    route: Route,
    path_parameters: Mapping[str, str],
    request_id: str,
    now: datetime,
    authorizer: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The event, format 2.0. A body that is not text by its content type travels in base64."""
    headers = joined(request.headers)
    cookies = headers.pop("cookie", None)
    body, encoded = encode_body(request.body, headers)
    host = headers.get("host", "localhost")
    query = joined(parse_qsl(request.query, keep_blank_values=True), lower=False)
    return {
        "version": "2.0",
        "routeKey": route.key,
        "rawPath": unquote(request.path),
        "rawQueryString": request.query,
        **({"cookies": cookies.split("; ")} if cookies else {}),
        "headers": {**headers, "x-forwarded-for": request.source_ip, "x-forwarded-proto": "http"},
        **({"queryStringParameters": query} if query else {}),
        **({"pathParameters": dict(path_parameters)} if path_parameters else {}),
        **({"stageVariables": dict(api.stage_variables)} if api.stage_variables else {}),
        "requestContext": {
            "accountId": ACCOUNT_ID,
            "apiId": api.api_id,
            **({"authorizer": dict(authorizer)} if authorizer else {}),
            "domainName": host,
            "domainPrefix": host.partition(".")[0],
            "http": {
                "method": request.method,
                "path": unquote(request.path),
                "protocol": request.protocol,
                "sourceIp": request.source_ip,
                "userAgent": headers.get("user-agent", ""),
            },
            "requestId": request_id,
            "routeKey": route.key,
            "stage": api.stage,
            "time": now.astimezone(UTC).strftime("%d/%b/%Y:%H:%M:%S +0000"),
            "timeEpoch": int(now.timestamp() * 1000),
        },
        **({"body": body} if body is not None else {}),
        "isBase64Encoded": encoded,
    }


def joined(pairs: Iterable[tuple[str, str]], *, lower: bool = True) -> dict[str, str]:
    """Repeated names become one, their values joined by commas, as format 2.0 has them."""
    merged: dict[str, str] = {}
    for name, value in pairs:
        key = name.lower() if lower else name
        merged[key] = f"{merged[key]},{value}" if key in merged else value
    return merged


def encode_body(body: bytes, headers: Mapping[str, str]) -> tuple[str | None, bool]:
    """(text, whether it is base64)."""
    if not body:
        return None, False
    content_type = headers.get("content-type", "text/plain")
    if content_type.startswith(TEXT_TYPES) and "content-encoding" not in headers:
        try:
            return body.decode(), False
        except UnicodeDecodeError:
            pass  # labelled text but is not: API Gateway sends such bodies in base64 too
    return base64.b64encode(body).decode(), True


def response(payload: bytes) -> HttpResponse:
    """A function's answer as HTTP: a full response, or any other JSON as a 200 with that body."""
    try:
        answer = json.loads(payload)
    except ValueError:
        return message(500, "Internal Server Error")
    if not isinstance(answer, dict) or "statusCode" not in answer:
        return HttpResponse(200, [("content-type", "application/json")], payload)
    try:
        body = answer.get("body") or ""
        raw = base64.b64decode(body, validate=True) if answer.get("isBase64Encoded") else body.encode()
        headers = {str(name).lower(): str(value) for name, value in (answer.get("headers") or {}).items()}
        cookies = [("set-cookie", str(cookie)) for cookie in answer.get("cookies") or []]
        headers.setdefault("content-type", "text/plain; charset=utf-8")
        headers.pop("content-length", None)
        return HttpResponse(int(answer["statusCode"]), [*headers.items(), *cookies], raw)
    except (ValueError, TypeError, AttributeError):
        return message(500, "Internal Server Error")


def function_of(integration_uri: str, stage_variables: Mapping[str, str]) -> tuple[str, str]:
    """(function name, qualifier) of an integration; `${stageVariables.x}` is filled in first.

    Takes a function's ARN, or API Gateway's path form `…:lambda:path/2015-03-31/functions/{arn}/invocations`.
    """
    uri = integration_uri
    for name, value in stage_variables.items():
        uri = uri.replace(f"${{stageVariables.{name}}}", value)
    arn = uri.partition("/functions/")[2].partition("/invocations")[0] or uri
    name, _, qualifier = arn.rpartition(":function:")[2].partition(":")
    return name, qualifier or "$LATEST"


HTTP = Flavour(
    event=event,
    response=response,
    timeout_s=30.0,
    no_route=message(404, "Not Found"),
    late=message(503, "Service Unavailable"),
    throttled=message(503, "Service Unavailable"),
    failed=message(500, "Internal Server Error"),
)
