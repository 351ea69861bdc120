"""The main job, run once for all tests of this folder: a project of its own, `turnout demo`, then `down`."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
PARTS = (
    "handlers",
    "model_build",
    "infra",
    "scripts",
    "turnout.toml",
    "cdk.json",
    "package.json",
    "node_modules",
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Project:
    """A folder with the repository's parts but not its state; `run` is the user's command line."""

    root: Path
    environment: dict[str, str]
    api_port: int

    @property
    def url(self) -> str:
        return f"http://localhost:{self.api_port}"

    def run(self, *arguments: str, timeout_s: float = 120, **more: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "scripts.cli", *arguments], cwd=self.root, env=self.environment,
            capture_output=True, text=True, timeout=timeout_s, check=False, **more,
        )  # fmt: skip

    def json(self, *arguments: str) -> Any:
        """The one JSON document that a command prints."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def wait_for(self, what: Callable[[], bool], limit_s: float = 60.0) -> None:
        limit = time.monotonic() + limit_s
        while not what():
            assert time.monotonic() < limit, f"did not happen within {limit_s:.0f} s"
            time.sleep(0.2)

    def gpu(self) -> dict[str, Any]:
        found: dict[str, Any] = self.json("status")["endpoints"][0]
        return found


def make_project(root: Path) -> Project:
    """Links to the code, so that releases, state and ports are apart from those of the repository."""
    for part in PARTS:
        (root / part).symlink_to(REPOSITORY / part)
    cache = REPOSITORY / ".turnout" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    (root / ".turnout").mkdir()
    (root / ".turnout" / "cache").symlink_to(cache)  # build steps are named by content
    ports = {name: free_port() for name in ("TURNOUT_API_PORT", "TURNOUT_AWS_PORT", "TURNOUT_RUNTIME_PORT")}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TURNOUT_", "AWS_"))}
    data = {name: os.environ[name] for name in ("TURNOUT_DATA_DIR",) if name in os.environ}
    environment = {
        **kept,
        **data,
        **{name: str(port) for name, port in ports.items()},
        "PYTHONPATH": str(root),
    }
    return Project(root, environment, ports["TURNOUT_API_PORT"])


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that has never been used."""
    if not (REPOSITORY / "node_modules" / ".bin" / "cdk").exists():
        pytest.skip("the CDK command line is not installed: npm ci")
    return make_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="session")
def demo(project: Project) -> Iterator[subprocess.CompletedProcess[str]]:
    """`turnout demo`, as a newcomer runs it; everything is ended afterwards."""
    try:
        yield project.run("demo", timeout_s=540)
    finally:
        project.run("down")


@pytest.fixture(scope="session")
def running(project: Project, demo: subprocess.CompletedProcess[str]) -> Project:
    """The cloud with its GPU copy up and held there: the kill switch keeps the control loop from acting."""
    assert demo.returncode == 0, demo.stderr
    aws = project.json("status")["aws"]
    ssm = client(project, "ssm", aws)
    ssm.put_parameter(Name="/turnout/local/control/enabled", Value="false", Type="String", Overwrite=True)
    client(project, "sagemaker", aws).update_inference_component_runtime_config(
        InferenceComponentName="turnout-local-digits", DesiredRuntimeConfig={"CopyCount": 1}
    )
    project.wait_for(lambda: project.gpu()["ready"] == 1, 120)
    return project


def client(project: Project, service: str, endpoint_url: str | None = None) -> Any:
    """A boto3 client of the laptop's AWS."""
    import boto3

    url = endpoint_url or project.json("status")["aws"]
    return boto3.client(
        service, endpoint_url=url, region_name="us-east-1", aws_access_key_id="local",
        aws_secret_access_key="local",
    )  # fmt: skip
