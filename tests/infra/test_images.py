"""What CodeBuild would run, without CodeBuild or an engine: commands, variables, the training image."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from infra import base_images
from infra.bundling import ROOT
from infra.config import load
from infra.deployment import Deployment
from infra.rules.pack import definition
from infra.stacks.training import TrainingStack

from .conftest import Look, resources

DOCKERFILE = ROOT / "infra" / "images" / "training.Dockerfile"
PHASES = {"install", "pre_build", "build", "post_build"}
GIVEN = {"AWS_REGION", "AWS_DEFAULT_REGION"}  # by CodeBuild itself
DISTRIBUTIONS = {"sklearn": "scikit-learn", "torch_pruning": "torch-pruning", "scipy": "scikit-learn"}


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n\s*", " ", DOCKERFILE.read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


def installed() -> set[str]:
    run = next(rest for name, rest in instructions() if name == "RUN")
    return {word for word in run.split("constraints.txt ")[1].split() if not word.startswith("-")}


def test_all_that_the_training_image_copies_is_there_and_all_it_installs_is_pinned():
    copied = [rest.split()[:-1] for name, rest in instructions() if name == "COPY"]
    assert [source for sources in copied for source in sources if not (ROOT / source).exists()] == []
    pins = {line.split("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert installed() <= pins
    assert dict(instructions())["FROM"] == "${BASE_IMAGE}"


def test_the_linter_finds_nothing_in_the_training_image():
    linter = Path(sys.executable).with_name("hadolint")  # of the development requirements
    done = subprocess.run([linter, "--no-color", DOCKERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def imports_of(start: str) -> set[str]:
    """The first names of all third-party modules that `start` imports, itself or through our own modules."""
    waiting, seen, foreign = [start], set[str](), set[str]()
    while waiting:
        name = waiting.pop()
        spec = importlib.util.find_spec(name) if name not in seen else None
        seen.add(name)
        if spec is None or spec.origin is None:
            continue
        for node in ast.walk(ast.parse(Path(spec.origin).read_text())):
            found = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for module in found:
                first = module.partition(".")[0]
                if first in ("handlers", "model_build"):
                    waiting += [module] if is_module(module) else []
                elif first not in sys.stdlib_module_names:
                    foreign.add(first)
    return foreign


def is_module(name: str) -> bool:
    return (ROOT / name.replace(".", "/")).is_dir() or (ROOT / f"{name.replace('.', '/')}.py").is_file()


def test_the_training_image_installs_all_that_the_job_imports():
    entry = json.loads(dict(instructions())["ENTRYPOINT"])[-1]
    recipes = [f"model_build.recipes.{path.stem}" for path in (ROOT / "model_build" / "recipes").glob("*.py")]
    found = set[str]().union(*(imports_of(name) for name in (entry, *recipes)))
    needed = {DISTRIBUTIONS.get(name, name) for name in found}
    assert needed - installed() == {"torch"}, "torch is the base image's"


def projects(look: Look) -> dict[str, dict[str, Any]]:
    made = resources(look("prod").templates, "AWS::CodeBuild::Project")
    return {project["Properties"]["Name"]: project["Properties"] for project in made}


@pytest.mark.slow
def test_the_builds_follow_codebuilds_form_and_know_their_variables(look: Look):
    machine = definition(
        resources(look("prod").templates, "AWS::StepFunctions::StateMachine")[0]["Properties"]
    )
    overridden = {
        entry["Name"]
        for state in machine["States"].values()
        for entry in state.get("Parameters", {}).get("EnvironmentVariablesOverride", [])
    }
    for name, project in projects(look).items():
        spec = json.loads(project["Source"]["BuildSpec"])
        assert spec["version"] == "0.2"
        assert set(spec) == {"version", "phases"}
        assert set(spec["phases"]) <= PHASES
        stated = {entry["Name"] for entry in project["Environment"]["EnvironmentVariables"]}
        for phase in spec["phases"].values():
            for command in phase["commands"]:
                checked = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True)
                assert checked.returncode == 0, f"{name}: {command}: {checked.stderr}"
                used = set(re.findall(r"\$\{?([A-Z_]+)", command)) | set(
                    re.findall(r"--build-arg ([A-Z_]+)", command)
                )
                assert used <= stated | overridden | GIVEN, f"{name}: {command}"
                for path in re.findall(r"-f (\S+)", command):
                    assert (ROOT / path).is_file()
                for module in re.findall(r"python -m ([\w.]+)", command):
                    assert is_module(module)


@pytest.mark.slow
def test_images_are_built_privileged_and_from_a_base_that_is_still_patched(look: Look):
    project = projects(look)["turnout-prod-image"]
    assert project["Environment"]["PrivilegedMode"] is True
    assert projects(look)["turnout-prod-build"]["Environment"]["Type"] == "ARM_CONTAINER", "as Lambda is"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "warned"), [("pytorch-2.13", False), ("pytorch-inference-2.6", True)])
def test_synth_warns_of_a_base_image_without_patches(tmp_path: Path, name: str, warned: bool):
    import aws_cdk as cdk
    from aws_cdk import assertions

    from infra.app import new_app

    image = base_images.base_image(name)
    if not warned and base_images.warning(image, datetime.now(tz=UTC).date()):
        pytest.fail(f"{name} is near its end: name a newer base image")
    stack = TrainingStack(
        new_app(str(tmp_path)),
        "training",
        deployment=Deployment.of(load(), "dev"),
        env=cdk.Environment(region="us-east-1"),
        base=image,
    )
    found = assertions.Annotations.from_stack(stack).find_warning(
        "*", assertions.Match.string_like_regexp("no more security patches")
    )
    assert bool(found) is warned
