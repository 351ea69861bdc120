"""A REST API on the laptop: format 1.0, which the functions answer too, and API Gateway's own errors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws

from handlers.protocol.http import from_event
from scripts.local import payload_rest
from scripts.local.authorisation import authorizer
from scripts.local.deployed import Deployed, read_rest_apis
from scripts.local.function_host import Throttled
from scripts.local.gateway import Gateway
from scripts.local.payload import ACCOUNT_ID, Api, HttpRequest, HttpResponse, Route
from scripts.local.sandbox import Invocation

URI = (
    "arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/"
    "arn:aws:lambda:us-east-1:123456789012:function:${stageVariables.digits}/invocations"
)
ROUTE = Route("ANY /v2/models/digits/{proxy+}", URI, "AWS_IAM")
API = Api("abc", "turnout", "live", {"digits": "turnout-local-digits:live"}, [ROUTE], "rest")
SIGNED = (
    "Authorization",
    "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261127/us-east-1/execute-api/aws4_request",
)
NOW = datetime(2026, 3, 12, 19, 3, 58, tzinfo=UTC)


def request(body: bytes = b"{}", path: str = "/v2/models/digits/infer", query: str = "") -> HttpRequest:
    headers = [("Host", "localhost:8080"), ("Content-Type", "application/json"), SIGNED]
    return HttpRequest("POST", path, query, headers, body, "127.0.0.1")


@given(st.binary(max_size=200))
def test_every_body_reaches_the_function_as_it_was(body: bytes) -> None:
    who = authorizer("AWS_IAM", SIGNED[1], ACCOUNT_ID)
    event = payload_rest.event(request(body), API, ROUTE, {"proxy": "infer"}, "id", NOW, who)
    found = from_event(json.loads(json.dumps(event)))
    assert (found.method, found.path, found.body) == ("POST", "/v2/models/digits/infer", body)
    assert found.headers["content-type"] == "application/json"
    assert found.caller == f"iam:arn:aws:iam::{ACCOUNT_ID}:user/AKIDEXAMPLE"


def test_an_event_has_what_a_rest_api_puts_in_it() -> None:
    event = payload_rest.event(request(query="q=1&q=2"), API, ROUTE, {"proxy": "infer"}, "id", NOW)
    assert event["resource"] == "/v2/models/digits/{proxy+}"
    assert event["queryStringParameters"] == {"q": "2"}
    assert event["multiValueQueryStringParameters"] == {"q": ["1", "2"]}
    assert event["headers"]["Content-Type"] == "application/json"
    assert event["stageVariables"] == {"digits": "turnout-local-digits:live"}
    assert event["requestContext"]["path"] == "/live/v2/models/digits/infer"


@pytest.mark.parametrize("answer", [b"no JSON", b"3", b'{"hello": 1}', b'{"statusCode": "x"}'])
def test_an_answer_that_is_none_is_a_502(answer: bytes) -> None:
    assert payload_rest.response(answer) == payload_rest.REST.failed


class Functions:
    """A host of functions that all do as `invoke` does."""

    def __init__(self, invoke: Callable[[str, str, bytes], Invocation]) -> None:
        self.deployed = Deployed({}, {}, [API], (), ())
        self._invoke = invoke

    async def invoke(self, name: str, qualifier: str, event: bytes) -> tuple[None, Invocation]:
        return None, self._invoke(name, qualifier, event)


def answer(invoke: Callable[[str, str, bytes], Invocation], incoming: HttpRequest) -> HttpResponse:
    functions: Any = Functions(invoke)
    return asyncio.run(Gateway(functions, Path("none")).answer(incoming))


def echo(name: str, qualifier: str, event: bytes) -> Invocation:
    told = {"function": f"{name}:{qualifier}", "path": json.loads(event)["path"]}
    return Invocation(json.dumps({"statusCode": 200, "body": json.dumps(told)}).encode(), None, 1.0)


def busy(*_: object) -> Invocation:
    raise Throttled


def broken(*_: object) -> Invocation:
    return Invocation(b"{}", "Unhandled", 1.0)


@pytest.mark.parametrize("path", ["/live/v2/models/digits/infer", "/v2/models/digits/infer"])
def test_it_answers_under_its_stage_and_without(path: str) -> None:
    found = answer(echo, request(path=path))
    told = {"function": "turnout-local-digits:live", "path": "/v2/models/digits/infer"}
    assert (found.status, json.loads(found.body)) == (200, told)


@pytest.mark.parametrize(
    ("invoke", "path", "status", "said"),
    [
        (echo, "/live/elsewhere", 403, "Missing Authentication Token"),
        (busy, "/live/v2/models/digits/infer", 500, "Internal server error"),
        (broken, "/live/v2/models/digits/infer", 502, "Internal server error"),
    ],
)
def test_its_own_errors_are_a_rest_apis(
    invoke: Callable[[str, str, bytes], Invocation], path: str, status: int, said: str
) -> None:
    found = answer(invoke, request(path=path))
    assert (found.status, json.loads(found.body)["message"]) == (status, said)


def test_what_is_deployed_is_found() -> None:
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    with mock_aws():
        client = boto3.client("apigateway", "us-east-1", **keys)
        api = client.create_rest_api(name="turnout")["id"]
        (root,) = client.get_resources(restApiId=api)["items"]
        resource = client.create_resource(restApiId=api, parentId=root["id"], pathPart="{proxy+}")["id"]
        where: dict[str, Any] = {"restApiId": api, "resourceId": resource, "httpMethod": "ANY"}
        client.put_method(**where, authorizationType="AWS_IAM")
        client.put_integration(**where, type="AWS_PROXY", integrationHttpMethod="POST", uri=URI)
        client.create_deployment(restApiId=api, stageName="live", variables={"digits": "f:live"})
        (found,) = read_rest_apis(client)
    assert (found.name, found.kind, found.stage, found.stage_variables) == (
        "turnout", "rest", "live", {"digits": "f:live"},
    )  # fmt: skip
    assert found.routes == [Route("ANY /{proxy+}", URI, "AWS_IAM")]
