"""boto3 sessions for a stage, with errors that say what to do."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from handlers.errors import TurnoutError

if TYPE_CHECKING:
    import boto3


def session_for(region: str, local_url: str | None = None) -> boto3.Session:
    """A session in `region`; with `local_url` every client of it speaks to the laptop's AWS there."""
    import boto3

    if local_url is None:
        return boto3.Session(region_name=region)
    os.environ["AWS_ENDPOINT_URL"] = local_url
    return boto3.Session(region_name=region, aws_access_key_id="local", aws_secret_access_key="local")  # noqa: S106


def account_of(session: boto3.Session) -> str:
    """The account that the session's credentials are of; TurnoutError when there are none or no answer."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        account: str = session.client("sts").get_caller_identity()["Account"]
    except (BotoCoreError, ClientError) as error:
        raise TurnoutError(
            f"AWS does not answer ({error}): check the credentials with turnout doctor"
        ) from error
    return account
