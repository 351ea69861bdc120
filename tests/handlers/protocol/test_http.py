"""Both of API Gateway's event formats become the same request."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest

from handlers.adapters.wiring import Running
from handlers.errors import InvalidInput
from handlers.protocol.http import from_event


def rest_event(method: str, path: str, body: bytes | None = None, **headers: str) -> dict[str, Any]:
    """A REST API's event, payload format 1.0, of an API whose binary media types are */*."""
    text = None if body is None else base64.b64encode(body).decode()
    return {
        "resource": "/v2/models/{proxy+}",
        "path": path,
        "httpMethod": method,
        "headers": headers or None,
        "multiValueHeaders": {name: [value] for name, value in headers.items()} or None,
        "queryStringParameters": None,
        "pathParameters": {"proxy": path.rpartition("/")[2]},
        "stageVariables": None,
        "requestContext": {
            "resourcePath": "/v2/models/{proxy+}",
            "httpMethod": method,
            "path": f"/live{path}",
            "protocol": "HTTP/1.1",
            "stage": "live",
            "identity": {"sourceIp": "127.0.0.1", "userArn": "arn:aws:iam::123456789012:role/caller"},
            "requestId": "r",
            "apiId": "a",
        },
        "body": text,
        "isBase64Encoded": body is not None,
    }


def test_a_rest_event_has_the_path_without_the_stage_and_lower_case_headers() -> None:
    http = from_event(rest_event("POST", "/v2/models/m/infer", b"{}", **{"Content-Type": "application/json"}))
    assert (http.method, http.path, http.body) == ("POST", "/v2/models/m/infer", b"{}")
    assert http.headers == {"content-type": "application/json"}
    assert http.caller == "iam:arn:aws:iam::123456789012:role/caller"


def test_a_rest_event_without_headers_or_body() -> None:
    http = from_event(rest_event("GET", "/v2"))
    assert (http.headers, http.body) == ({}, b"")


def test_a_compressed_body_in_a_rest_event() -> None:
    packed = gzip.compress(b'{"inputs": []}')
    http = from_event(rest_event("POST", "/v2/models/m/infer", packed, **{"Content-Encoding": "gzip"}))
    assert http.body == b'{"inputs": []}'


def test_a_rest_event_whose_body_is_not_base64() -> None:
    event = rest_event("POST", "/v2/models/m/infer", b"x")
    with pytest.raises(InvalidInput, match="base64"):
        from_event({**event, "body": "***"})


def test_both_formats_get_the_same_answer(shared: Running, event: Callable[..., dict[str, Any]]) -> None:
    model = shared.service.settings.model
    image = {"name": "image", "datatype": "FP32", "shape": [1, 1, 2, 2], "data": [9.0, 1.0, 0.0, 0.0]}
    body = json.dumps({"inputs": [image]})
    path = f"/v2/models/{model}/infer"
    http = shared.answer(event("POST", path, body), "h")
    rest = shared.answer(rest_event("POST", path, body.encode()), "r")
    outputs = [json.loads(answer["body"]).get("outputs") for answer in (http, rest)]
    assert (http["statusCode"], rest["statusCode"]) == (200, 200), (http, rest)
    assert outputs[0] == outputs[1]
