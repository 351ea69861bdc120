"""Given a model's functions, when they may do something, then no more than what they are turned to."""

from __future__ import annotations

from typing import Any

import pytest


def statements(shadow_share: float, role: str) -> dict[str, Any]:
    """The statements of a function of digits, by sid."""
    import aws_cdk as cdk

    from infra import config
    from infra.constructs.grants import function_grants
    from infra.deployment import Deployment

    text = config.DEFAULT_PATH.read_text()
    routing = f"[models.digits.routing]\nshadow_share = {shadow_share}\n\n[models.mnist]\n"
    deployment = Deployment.of(config.parse(text.replace("[models.mnist]\n", routing, 1)), "local")
    stack = cdk.Stack(cdk.App(), "s", env=cdk.Environment(account="123456789012", region="us-east-1"))
    found = [grant.to_statement_json() for grant in function_grants(stack, deployment, "digits", role)]
    return {str(each["Sid"]): each for each in found}


@pytest.mark.parametrize(("role", "name"), [("colocated", "digits"), ("front", "digits-front")])
def test_a_function_invokes_itself_only_where_it_shadows(role: str, name: str) -> None:
    assert "Shadow" not in statements(0.0, role)
    grant = statements(0.1, role)["Shadow"]
    assert grant["Action"] == "lambda:InvokeFunction"
    assert f"function:turnout-local-{name}:live" in str(grant["Resource"])


def test_a_models_own_function_behind_a_front_does_not() -> None:
    assert "Shadow" not in statements(0.1, "model")
