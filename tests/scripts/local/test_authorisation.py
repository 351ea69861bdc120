"""Given a route with authorisation, when somebody calls, then who it is is told, and nobody is refused."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest

from scripts.local.authorisation import Refused, authorizer

ACCOUNT = "123456789012"


def token(**claims: Any) -> str:
    parts = [json.dumps(part).encode() for part in ({"alg": "RS256"}, claims)]
    texts = [base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts]
    return ".".join((*texts, "signature"))


def test_an_open_route_asks_nothing() -> None:
    assert authorizer("NONE", "", ACCOUNT) == {}


def test_a_signed_request_tells_its_user() -> None:
    header = (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261124/us-east-1/execute-api/aws4_request, Signature=x"
    )
    assert authorizer("AWS_IAM", header, ACCOUNT)["iam"]["userArn"].endswith("user/AKIDEXAMPLE")


def test_a_token_tells_its_subject() -> None:
    header = f"Bearer {token(sub='her', exp=time.time() + 60)}"
    assert authorizer("JWT", header, ACCOUNT)["jwt"]["claims"]["sub"] == "her"


@pytest.mark.parametrize(
    ("kind", "header", "status"),
    [
        ("AWS_IAM", "", 403),
        ("AWS_IAM", "Bearer x", 403),
        ("JWT", "", 401),
        ("JWT", "Bearer a.b", 401),
        ("JWT", f"Bearer {token(sub='her', exp=1)}", 401),
    ],
)
def test_who_has_nothing_to_show_is_refused_as_there(kind: str, header: str, status: int) -> None:
    with pytest.raises(Refused) as refused:
        authorizer(kind, header, ACCOUNT)
    assert refused.value.response.status == status
