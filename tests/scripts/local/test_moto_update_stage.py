"""Given an HTTP API in moto, when the control loop moves its route, the stage has the new variables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from handlers.adapters.api_route import ApiRoute
from scripts.local.moto_api_gateway import teach_api_gateway


@pytest.fixture
def gateway() -> Iterator[Any]:
    teach_api_gateway()
    with mock_aws():
        yield boto3.client(
            "apigatewayv2", region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
        )


def test_a_route_moves_and_the_others_stay(gateway: Any) -> None:
    api_id = gateway.create_api(Name="api", ProtocolType="HTTP")["ApiId"]
    variables = {"digits": "digits:live", "mnist": "mnist:live"}
    gateway.create_stage(ApiId=api_id, StageName="$default", StageVariables=variables)
    route = ApiRoute(gateway, api_id, "$default", "digits")
    assert route.target() == "digits:live"
    route.lead_to("digits-front:live")
    assert route.target() == "digits-front:live"
    assert ApiRoute(gateway, api_id, "$default", "mnist").target() == "mnist:live"
