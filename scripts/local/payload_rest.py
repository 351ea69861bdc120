"""API Gateway's REST API, payload format 1.0, as `payload` is the HTTP API's 2.0.

Pure. Format and statuses: AWS, "Input format of a Lambda function for proxy integration" and "Handle Lambda
errors in API Gateway". All bodies travel in base64, since the API declares every media type binary.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, unquote

from scripts.local import payload
from scripts.local.payload import ACCOUNT_ID, Api, Flavour, HttpRequest, HttpResponse, Route, message

FAILED = message(502, "Internal server error")


def event(
    request: HttpRequest,
    api: Api,
    route: Route,
    path_parameters: Mapping[str, str],
    request_id: str,
    now: datetime,
    authorizer: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The event: header names as the caller wrote them, and a path without the stage."""
    headers = [*request.headers, ("X-Forwarded-For", request.source_ip), ("X-Forwarded-Proto", "http")]
    query = parse_qsl(request.query, keep_blank_values=True)
    lower = payload.joined(request.headers)
    host = lower.get("host", "localhost")
    path = unquote(request.path)
    return {
        "resource": route.key.partition(" ")[2],
        "path": path,
        "httpMethod": request.method,
        "headers": dict(headers) or None,
        "multiValueHeaders": gathered(headers) or None,
        "queryStringParameters": dict(query) or None,
        "multiValueQueryStringParameters": gathered(query) or None,
        "pathParameters": dict(path_parameters) or None,
        "stageVariables": dict(api.stage_variables) or None,
        "requestContext": {
            "accountId": ACCOUNT_ID,
            "apiId": api.api_id,
            "domainName": host,
            "domainPrefix": host.partition(".")[0],
            "extendedRequestId": request_id,
            "httpMethod": request.method,
            "identity": {
                "sourceIp": request.source_ip,
                "userAgent": lower.get("user-agent", ""),
                **(authorizer or {}).get("iam", {}),
            },
            "path": f"/{api.stage}{path}",
            "protocol": request.protocol,
            "requestId": request_id,
            "requestTime": now.astimezone(UTC).strftime("%d/%b/%Y:%H:%M:%S +0000"),
            "requestTimeEpoch": int(now.timestamp() * 1000),
            "resourcePath": route.key.partition(" ")[2],
            "stage": api.stage,
        },
        "body": base64.b64encode(request.body).decode() if request.body else None,
        "isBase64Encoded": bool(request.body),
    }


def gathered(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Every value of each name, in order."""
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found


def response(answer: bytes) -> HttpResponse:
    """A function's answer as HTTP; one without a status is malformed here."""
    try:
        whole = "statusCode" in json.loads(answer)
    except (ValueError, TypeError):
        whole = False
    found = payload.response(answer)
    return found if whole and found != payload.HTTP.failed else FAILED


REST = Flavour(
    event=event,
    response=response,
    timeout_s=29.0,
    no_route=message(403, "Missing Authentication Token"),
    late=message(504, "Endpoint request timed out"),
    throttled=message(500, "Internal server error"),
    failed=FAILED,
)
