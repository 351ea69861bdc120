"""A boto3 session for a stage of turnout.toml, whichever cloud that is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import boto3


def stage_session(stage: str) -> tuple[boto3.Session, str]:
    """Credentials for the stage, and the account that they are of; the laptop's AWS for `local`."""
    from handlers.errors import InvalidConfig
    from infra.config import load
    from infra.sessions import account_of, session_for

    if stage == "local":
        from scripts.commands.cloud import find_places

        session = session_for(load().stage(stage).region, find_places().aws_url)
    else:
        session = session_for(load().stage(stage).region)
    account = account_of(session)
    expected = load().stage(stage).account
    if expected and account != expected:
        raise InvalidConfig("AWS account", account, f"{expected}, the account of stage {stage}")
    return session, account
