"""Who calls, as far as a laptop can tell: API Gateway's IAM and JWT authorisation, read but not verified.

AWS checks a signature with the caller's secret and a token with its issuer's keys; neither is here. A caller
without either is refused as there, and callers are told apart as there, so that budgets by caller work. It
keeps nobody out who wants in: the API listens on this machine only.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Mapping
from typing import Any

from scripts.local.payload import HttpResponse, message

ACCESS_KEY = re.compile(r"AWS4-HMAC-SHA256 Credential=([A-Za-z0-9]+)/")


class Refused(Exception):
    """Raised for a caller that the route's authorisation does not let in; `response` is the answer."""

    def __init__(self, status: int, text: str) -> None:
        self.response: HttpResponse = message(status, text)
        super().__init__(text)


def authorizer(kind: str, authorization: str, account_id: str) -> Mapping[str, Any]:
    """The event's `requestContext.authorizer` for a route of this kind. Raises Refused."""
    if kind == "AWS_IAM":
        found = ACCESS_KEY.match(authorization)
        if found is None:
            raise Refused(403, "Forbidden")
        user = f"arn:aws:iam::{account_id}:user/{found[1]}"
        return {"iam": {"accessKey": found[1], "accountId": account_id, "userArn": user}}
    if kind == "JWT":
        return {"jwt": {"claims": claims_of(authorization), "scopes": None}}
    return {}


def claims_of(authorization: str) -> dict[str, str]:
    """The claims of a bearer token that has not expired, as strings, as API Gateway hands them on."""
    parts = authorization.removeprefix("Bearer ").split(".")
    try:
        body = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        claims = {str(name): str(value) for name, value in json.loads(body).items()}
        expired = float(claims.get("exp", "inf")) < time.time()
    except (IndexError, ValueError, AttributeError):
        raise Refused(401, "Unauthorized") from None
    if expired or len(parts) != 3:
        raise Refused(401, "Unauthorized")
    return claims
