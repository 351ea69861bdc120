from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", "1")

Templates = dict[str, dict[str, Any]]
Finding = tuple[str, str]


@dataclass(frozen=True)
class Stage:
    """A deployment as it synthesizes: `folder` holds the templates, `findings` are (rule, construct path)."""

    deployment: Any
    templates: Templates
    needs: dict[str, list[str]]
    folder: Path
    findings: set[Finding]


Look = Callable[[str], Stage]


def look_at(deployment: Any, folder: Path) -> Stage:
    """Synthesizes `deployment` under both packs of cdk-nag, whose findings a test reads.

    What it becomes depends on no release that happens to lie about.
    """
    import aws_cdk as cdk
    from cdk_nag import AwsSolutionsChecks, ServerlessChecks

    from infra.app import make_stacks, new_app

    app = new_app(str(folder))
    cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app), ServerlessChecks(app))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TURNOUT_RELEASES_DIR", str(folder / "no releases"))
        stacks = make_stacks(app, deployment)
    with pytest.raises(RuntimeError, match="ValidationFailed"):  # cdk-nag has findings in every stage
        app.synth()
    report = json.loads((folder / "validation-report.json").read_text())
    found = {
        (violation["ruleName"], construct["constructPath"].removesuffix("/Resource"))
        for plugin in report["pluginReports"]
        for violation in plugin["violations"]
        for construct in violation["violatingConstructs"]
    }
    templates = {stack.stack_name: json.loads((folder / stack.template_file).read_text()) for stack in stacks}
    needs = {stack.stack_name: sorted(other.stack_name for other in stack.dependencies) for stack in stacks}
    return Stage(deployment, templates, needs, folder, found)


@pytest.fixture(scope="session")
def look(tmp_path_factory: pytest.TempPathFactory) -> Look:
    """A stage of the repository's turnout.toml, synthesized once a session."""
    from infra.config import load
    from infra.deployment import Deployment

    made: dict[str, Stage] = {}

    def of(stage: str) -> Stage:
        if stage not in made:
            made[stage] = look_at(Deployment.of(load(), stage), tmp_path_factory.mktemp(stage))
        return made[stage]

    return of


@pytest.fixture(scope="session")
def synthesize(look: Look) -> Callable[[str], Templates]:
    """The templates of a stage by stack name."""
    return lambda stage: look(stage).templates


@pytest.fixture(scope="session")
def rest(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """The dev stage with a REST API in the place of the HTTP API, whose route moves."""
    return varied(
        tmp_path_factory.mktemp("rest"),
        ("[stages.dev]\n", '[stages.dev]\napi = "rest"\n'),
        ("attainment = 0.99\n", 'attainment = 0.99\ntopology = "auto"\n'),
    )


@pytest.fixture(scope="session")
def fronts(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """The dev stage with a front before each model: the route of digits moves, sst2's leads to its front."""
    return varied(
        tmp_path_factory.mktemp("fronts"),
        ('models = ["digits"]\nproduction = false\n', 'models = ["digits", "sst2"]\nproduction = false\n'),
        ("attainment = 0.99\n", 'attainment = 0.99\ntopology = "auto"\n'),
        ("latency_slo_ms = 300\n", 'latency_slo_ms = 300\ntopology = "split"\n'),
    )


def varied(folder: Path, *changes: tuple[str, str], stage: str = "dev") -> Stage:
    """A stage of turnout.toml after `changes`, each a text and what takes its place."""
    from infra import config
    from infra.deployment import Deployment

    text = config.DEFAULT_PATH.read_text()
    for before, after in changes:
        assert before in text
        text = text.replace(before, after, 1)
    return look_at(Deployment.of(config.parse(text), stage), folder)


def resources(templates: Templates, kind: str) -> list[dict[str, Any]]:
    return [r for t in templates.values() for r in t["Resources"].values() if r["Type"] == kind]
