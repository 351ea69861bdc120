"""cdk-nag and cfn-lint over what the stages synthesize."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra.config import load
from infra.deployment import Deployment
from infra.rules import reasons

from .conftest import synthesized


@pytest.mark.slow
def test_cdk_nag_finds_nothing_but_what_has_a_written_reason(tmp_path: Path):
    import aws_cdk as cdk
    from cdk_nag import AwsSolutionsChecks, ServerlessChecks

    from infra.app import CONTEXT, make_stacks

    # Given prod as it is
    deployment = Deployment.of(load(), "prod")
    app = cdk.App(outdir=str(tmp_path), context=CONTEXT, analytics_reporting=False)
    cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app), ServerlessChecks(app))
    make_stacks(app, deployment)
    # When both packs look at it (they raise, because findings are acknowledged here, not in the app)
    with pytest.raises(RuntimeError, match="ValidationFailed"):
        app.synth()
    report = json.loads((tmp_path / "validation-report.json").read_text())
    found = {
        (violation["ruleName"], construct["constructPath"].removesuffix("/Resource"))
        for plugin in report["pluginReports"]
        for violation in plugin["violations"]
        for construct in violation["violatingConstructs"]
    }
    # Then each finding has its reason, and each reason its finding
    written = set(reasons.expanded("prod", deployment.settings.region, list(deployment.models)))
    assert found - written == set(), "findings without a reason"
    assert written - found == set(), "reasons that explain nothing"


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["local", "prod"])
def test_cfn_lint_is_clean(stage: str, tmp_path: Path):
    from cfnlint import ManualArgs
    from cfnlint.api import lint_file

    # W3005, a DependsOn that a GetAtt implies already: CDK writes them so for every role and its policy.
    options = ManualArgs(ignore_checks=["W3005"])
    synthesized(Deployment.of(load(), stage), tmp_path)
    found = [
        f"{path.name}: {match}"
        for path in sorted(tmp_path.glob("*.template.json"))
        for match in lint_file(path, options)
    ]
    assert found == []
