"""The real CDK command line, led into the laptop's AWS: bootstrap, then deploy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

from handlers.errors import LocalCloudError
from scripts.local.moto_gaps import GAPS
from scripts.local.places import ACCOUNT_ID, Places

Say = Callable[[str], None]


class Cdk:
    """`node_modules/.bin/cdk` with an environment that reaches only `places`."""

    def __init__(self, places: Places, log: Path) -> None:
        self._places, self._log = places, log
        self._cli = places.root / "node_modules" / ".bin" / "cdk"
        self._assembly = places.root / ".turnout" / "local" / "cdk.out"

    def bootstrap(self) -> None:
        """Makes the asset bucket and roles that `cdk deploy` publishes through."""
        environment = f"aws://{ACCOUNT_ID}/{self._places.region}"
        self._run("bootstrap", environment, folder=self._places.home)  # away from cdk.json: it needs no app

    def synth(self) -> None:
        """Synthesizes the local stage once, for both deployments; builds the functions' package."""
        self._run("synth", "--quiet", "--output", str(self._assembly))

    def deploy(self, *stacks: str, say: Say) -> None:
        """Deploys the named stacks, or all; `say` gets one line for each that is finished."""
        chosen = stacks or ("--all",)
        self._run(
            "deploy", *chosen, "--app", str(self._assembly), "--require-approval", "never", "--progress",
            "events", say=say,
        )  # fmt: skip
        check_deployment(self._places)

    def _run(self, *arguments: str, say: Say | None = None, folder: Path | None = None) -> None:
        environment = {
            **os.environ,
            **self._places.client_environment(),
            "AWS_ACCOUNT_ID": ACCOUNT_ID,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "1",
            "CDK_DISABLE_CLI_TELEMETRY": "true",
        }
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
            environment.pop(name, None)
        command = [str(self._cli), *arguments, "--no-notices"]
        lines: list[str] = []
        with self._log.open("a") as log, subprocess.Popen(
            command, cwd=folder or self._places.root, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace",
        ) as process:  # fmt: skip
            assert process.stdout is not None  # noqa: S101  # asked for with PIPE
            for line in process.stdout:
                log.write(line)
                lines.append(line.rstrip())
                if say is not None and line.startswith(" ✅"):
                    say(line.split()[1])
        if process.returncode:
            told = "\n".join(line for line in lines if line and not line.startswith("b'"))
            raise LocalCloudError(f"cdk {arguments[0]} failed (log: {self._log})\n{told[-2000:]}")


def check_deployment(places: Places) -> None:
    """moto's CloudFormation always says COMPLETE. Raises LocalCloudError with what really failed."""
    with urllib.request.urlopen(f"{places.aws_url}/turnout/deployment") as answer:  # noqa: S310  # our own
        found = json.load(answer)
    if found["failed"]:
        raise LocalCloudError("the stacks did not deploy: " + "; ".join(found["failed"]))
    unexplained = sorted(set(found["skipped"]) - set(GAPS))
    if unexplained:
        raise LocalCloudError(
            f"the laptop cloud cannot make {', '.join(unexplained)}: teach scripts/local/moto_types.py, or "
            "give the reason in scripts/local/moto_gaps.py"
        )
