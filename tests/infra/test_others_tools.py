"""cdk-nag and cfn-lint over what every stage synthesizes."""

from __future__ import annotations

import pytest

from infra.rules import reasons

from .conftest import Look, Stage

pytestmark = pytest.mark.slow
STAGES = ("local", "dev", "prod")


def check_findings(stage: Stage) -> None:
    """Each finding has its reason, and each reason its finding."""
    written = set(reasons.expanded(stage.deployment))
    assert stage.findings - written == set(), "findings without a reason"
    assert written - stage.findings == set(), "reasons that explain nothing"


@pytest.mark.parametrize("stage", STAGES)
def test_cdk_nag_finds_nothing_but_what_has_a_written_reason(look: Look, stage: str):
    check_findings(look(stage))


def test_cdk_nag_finds_nothing_more_in_a_rest_api(rest: Stage):
    check_findings(rest)


def test_cdk_nag_finds_nothing_more_in_fronts(fronts: Stage):
    check_findings(fronts)


def lint(stage: Stage, names: str = "*") -> list[str]:
    from cfnlint import ManualArgs
    from cfnlint.api import lint_file

    # W3005, a DependsOn that a GetAtt implies already: CDK writes them so for every role and its policy.
    options = ManualArgs(ignore_checks=["W3005"])
    paths = sorted(stage.folder.glob(f"{names}.template.json"))
    return [f"{path.name}: {match}" for path in paths for match in lint_file(path, options)]


@pytest.mark.parametrize("stage", STAGES)
def test_cfn_lint_is_clean(look: Look, stage: str):
    assert lint(look(stage)) == []


def test_cfn_lint_is_clean_for_a_rest_api(rest: Stage):
    assert lint(rest, "*-api") == []


def test_cfn_lint_is_clean_for_fronts(fronts: Stage):
    assert lint(fronts, "*-api") == []
