from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", "1")

Templates = dict[str, dict[str, Any]]


@pytest.fixture(scope="session")
def synthesize(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Templates]:
    """Templates by stack name of a stage of the repository's turnout.toml, synthesized once a session."""
    made: dict[str, Templates] = {}

    def of(stage: str) -> Templates:
        if stage not in made:
            from infra.config import load
            from infra.deployment import Deployment

            made[stage] = synthesized(Deployment.of(load(), stage), tmp_path_factory.mktemp(stage))
        return made[stage]

    return of


def synthesized(deployment: Any, folder: Path) -> Templates:
    import aws_cdk as cdk

    from infra.app import CONTEXT, make_stacks

    app = cdk.App(outdir=str(folder), context=CONTEXT, analytics_reporting=False)
    make_stacks(app, deployment)
    app.synth()
    return {
        path.name.removesuffix(".template.json"): json.loads(path.read_text())
        for path in sorted(folder.glob("*.template.json"))
    }
