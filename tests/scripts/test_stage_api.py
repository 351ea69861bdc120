"""How a call to a deployed stage is found and authorised."""

from __future__ import annotations

from collections.abc import Iterator

import boto3
import pytest
from moto import mock_aws

from handlers.errors import InvalidConfig, TurnoutError
from infra.names import Names
from scripts.stage_api import stage_api

NAMES, URL = Names("dev"), "https://abc.execute-api.us-east-1.amazonaws.com"


@pytest.fixture
def session() -> Iterator[boto3.Session]:
    with mock_aws():
        made = boto3.Session("id", "secret", region_name="us-east-1")
        made.client("ssm").put_parameter(Name=NAMES.api_url, Value=URL, Type="String")
        yield made


def test_iam_calls_are_signed_for_the_api(session: boto3.Session):
    api = stage_api(session, NAMES, "iam", {})
    headers = api.headers(f"{api.url}/v2/models/digits/infer", b"{}")
    assert api.url == URL
    assert headers["Authorization"].startswith("AWS4-HMAC-SHA256 Credential=id/")
    assert "/us-east-1/execute-api/aws4_request" in headers["Authorization"]
    assert "X-Amz-Date" in headers


def test_a_token_is_carried_and_asked_for(session: boto3.Session):
    api = stage_api(session, NAMES, "jwt", {"TURNOUT_TOKEN": "t"})
    assert api.headers(URL, b"")["Authorization"] == "Bearer t"
    with pytest.raises(InvalidConfig, match="TURNOUT_TOKEN"):
        stage_api(session, NAMES, "jwt", {})


def test_an_open_stage_needs_nothing(session: boto3.Session):
    assert "Authorization" not in stage_api(session, NAMES, "none", {}).headers(URL, b"")


def test_a_stage_that_is_not_deployed_says_how(session: boto3.Session):
    with pytest.raises(TurnoutError, match="npx cdk deploy -c stage=prod turnout-prod-api"):
        stage_api(session, Names("prod"), "iam", {})
