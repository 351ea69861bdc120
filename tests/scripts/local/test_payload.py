"""API Gateway's format 2.0: routes, events, answers."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.local import payload
from scripts.local.payload import Api, HttpRequest, Route

PATH_FORM = "arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/"
NOW = datetime(2026, 3, 12, 19, 3, 58, tzinfo=UTC)
ROUTES = [
    Route("$default", "d"),
    Route("ANY /v2/models/{proxy+}", "p"),
    Route("GET /v2/models/{name}", "n"),
    Route("POST /v2/models/digits", "e"),
]
API = Api("abc", "turnout", "$default", {"digits": "turnout-local-digits-front:live"}, ROUTES)


def request(
    body: bytes = b"", *headers: tuple[str, str], query: str = "", path: str = "/v2/models/a"
) -> HttpRequest:
    return HttpRequest("POST", path, query, [("Host", "localhost:8080"), *headers], body, "127.0.0.1")


def made(incoming: HttpRequest) -> dict[str, object]:
    return payload.event(incoming, API, ROUTES[1], {"proxy": "a"}, "id", NOW)


@pytest.mark.parametrize(
    ("method", "path", "uri", "parameters"),
    [
        ("POST", "/v2/models/digits", "e", {}),
        ("GET", "/v2/models/digits", "n", {"name": "digits"}),
        ("POST", "/v2/models/a/infer", "p", {"proxy": "a/infer"}),
        ("POST", "/v2/models/a%20b/infer", "p", {"proxy": "a b/infer"}),
        ("GET", "/elsewhere", "d", {}),
    ],
)
def test_the_most_specific_route_wins(method: str, path: str, uri: str, parameters: dict[str, str]) -> None:
    matched = payload.match(ROUTES, method, path)
    assert matched is not None
    assert (matched[0].integration_uri, matched[1]) == (uri, parameters)


def test_no_route_is_no_match() -> None:
    assert payload.match(ROUTES[1:], "GET", "/elsewhere") is None
    assert payload.match(ROUTES[2:], "DELETE", "/v2/models/digits") is None


def test_an_event_has_what_api_gateway_puts_in_it() -> None:
    # Given a request with a repeated header, cookies and a query
    incoming = request(
        b'{"a": 1}', ("Content-Type", "application/json"), ("X-A", "1"), ("x-a", "2"), ("Cookie", "k=v; l=w"),
        query="q=1&q=2&r=%20",
    )  # fmt: skip
    # When it becomes an event
    event = made(incoming)
    # Then names are lower case, repetitions joined, cookies apart, the body text
    assert event["version"] == "2.0"
    assert event["headers"]["x-a"] == "1,2"  # type: ignore[index]
    assert event["cookies"] == ["k=v", "l=w"]
    assert event["queryStringParameters"] == {"q": "1,2", "r": " "}
    assert (event["body"], event["isBase64Encoded"]) == ('{"a": 1}', False)
    context = event["requestContext"]
    assert context["time"] == "12/Mar/2026:19:03:58 +0000"  # type: ignore[index]
    assert context["http"]["method"] == "POST"  # type: ignore[index]


@given(st.binary(min_size=1, max_size=200), st.sampled_from(["application/octet-stream", "text/plain", None]))
def test_every_body_survives_the_event(body: bytes, content_type: str | None) -> None:
    headers = [("content-type", content_type)] if content_type else []
    event = made(request(body, *headers))
    text = str(event["body"])
    assert (base64.b64decode(text) if event["isBase64Encoded"] else text.encode()) == body


@given(st.binary(max_size=200))
def test_every_binary_answer_comes_back_as_it_was(body: bytes) -> None:
    answer = {
        "statusCode": 200,
        "headers": {"X-B": "1"},
        "body": base64.b64encode(body).decode(),
        "isBase64Encoded": True,
    }
    found = payload.response(json.dumps(answer).encode())
    assert (found.status, found.body) == (200, body)
    assert ("x-b", "1") in found.headers


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        ({"hello": 1}, 200, b'{"hello": 1}'),
        ({"statusCode": 204}, 204, b""),
        ({"statusCode": "x"}, 500, b'{"message": "Internal Server Error"}'),
        (
            {"statusCode": 200, "body": "%", "isBase64Encoded": True},
            500,
            b'{"message": "Internal Server Error"}',
        ),
    ],
)
def test_answers_of_every_kind(answer: object, status: int, body: bytes) -> None:
    found = payload.response(json.dumps(answer).encode())
    assert (found.status, found.body) == (status, body)


@pytest.mark.parametrize(
    ("uri", "variables", "expected"),
    [
        ("arn:aws:lambda:us-east-1:1:function:f", {}, ("f", "$LATEST")),
        ("arn:aws:lambda:us-east-1:1:function:f:live", {}, ("f", "live")),
        (
            f"{PATH_FORM}arn:aws:lambda:us-east-1:1:function:${{stageVariables.route}}/invocations",
            {"route": "g:live"},
            ("g", "live"),
        ),
    ],
)
def test_the_function_behind_an_integration(
    uri: str, variables: dict[str, str], expected: tuple[str, str]
) -> None:
    assert payload.function_of(uri, variables) == expected
