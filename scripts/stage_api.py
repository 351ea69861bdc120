"""Where a stage's API answers, and how a call to it is authorised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from handlers.errors import InvalidConfig, TurnoutError

if TYPE_CHECKING:
    import boto3

    from infra.names import Names

TOKEN = "TURNOUT_TOKEN"  # noqa: S105  # the variable's name
JSON = {"Content-Type": "application/json"}
Headers = Callable[[str, bytes], dict[str, str]]


@dataclass(frozen=True, slots=True)
class StageApi:
    """`headers` gives those of a POST of a body to a URL under `url`."""

    url: str
    headers: Headers


def stage_api(
    session: boto3.Session,
    names: Names,
    auth: Literal["iam", "jwt", "none"],
    environment: Mapping[str, str],
) -> StageApi:
    """The API of a stage. Raises TurnoutError where it is not deployed, InvalidConfig without a token."""
    ssm = session.client("ssm")
    try:
        url = str(ssm.get_parameter(Name=names.api_url)["Parameter"]["Value"])
    except ssm.exceptions.ParameterNotFound as error:
        stack = names.stack("api")
        raise TurnoutError(
            f"{stack} is not deployed: npx cdk deploy -c stage={names.stage} {stack}"
        ) from error
    if auth == "iam":
        return StageApi(url, lambda target, body: signed(session, target, body))
    if auth == "none":
        return StageApi(url, lambda _target, _body: dict(JSON))
    token = environment.get(TOKEN, "")
    if not token:
        raise InvalidConfig(TOKEN, token, "a token of the issuer that turnout.toml names")
    return StageApi(url, lambda _target, _body: {**JSON, "Authorization": f"Bearer {token}"})


def signed(session: boto3.Session, url: str, body: bytes) -> dict[str, str]:
    """The headers of a POST, with Signature Version 4 for API Gateway."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest

    request = AWSRequest("POST", url, headers=dict(JSON), data=body)
    credentials = session.get_credentials()
    if credentials is None:
        raise TurnoutError("there are no AWS credentials to sign with: turnout doctor says how to get some")
    SigV4Auth(credentials, "execute-api", session.region_name).add_auth(request)
    return dict(request.headers.items())
