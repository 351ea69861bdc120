"""What the builder (CodeBuild) runs for the training state machine: `compress`, `deploy` or `rollback`.

    python -m scripts.remote_build compress

Its inputs are environment variables: TURNOUT_STAGE, TURNOUT_MODEL, TURNOUT_BUCKET, TURNOUT_JOB (the s3://
folder of the execution), TURNOUT_TRAINED (the job's model.tar.gz) and TURNOUT_RELEASE.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from handlers.errors import InvalidConfig, TurnoutError

COMMANDS = ("compress", "deploy", "rollback")
Run = Callable[[list[str], Mapping[str, str]], "subprocess.CompletedProcess[str]"]


def turnout(command: list[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Runs the `turnout` command; its progress goes to this process's stderr."""
    line = [sys.executable, "-m", "scripts.cli", *command]
    return subprocess.run(line, env=dict(environment), stdout=subprocess.PIPE, text=True, check=False)


def main(arguments: list[str], environment: Mapping[str, str], s3: Any, run: Run = turnout) -> int:
    """Runs one command; the exit code is CodeBuild's."""
    if len(arguments) != 1 or arguments[0] not in COMMANDS:
        raise InvalidConfig("TURNOUT_COMMAND", " ".join(arguments), "one of " + ", ".join(COMMANDS))
    stage, model = named(environment, "TURNOUT_STAGE"), named(environment, "TURNOUT_MODEL")
    if arguments[0] == "compress":
        return compress(stage, model, environment, s3, run)
    if arguments[0] == "deploy":
        release = named(environment, "TURNOUT_RELEASE")
        step = [
            "release",
            "deploy",
            f"{model}@{release}",
            "--stage",
            stage,
            "--canary",
            "10%",
            "--minutes",
            "10",
        ]
        return run(step, environment).returncode
    return run(["release", "rollback", model, "--stage", stage], environment).returncode


def compress(stage: str, model: str, environment: Mapping[str, str], s3: Any, run: Run) -> int:
    """Goes on from the trained steps to a pushed release, and writes the verdict of the gates beside the job.

    A gate that fails is a verdict, not a failed build; anything else that fails fails the build.
    """
    bucket, prefix = split(named(environment, "TURNOUT_JOB"))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        fetch_trained(named(environment, "TURNOUT_TRAINED"), s3, folder)
        inside = {**environment, "TURNOUT_CACHE_DIR": str(folder / "cache")}
        built = run(["build", model, "--json"], inside)
    if built.returncode:
        verdict(s3, bucket, prefix, {"passed": "false", "release": "none"}, b"{}")
        return 0 if built.returncode == GATE_FAILED else built.returncode
    document = json.loads(built.stdout)
    pushed = run(["release", "push", f"{model}@{document['release']}", "--stage", stage], environment)
    if pushed.returncode:
        return pushed.returncode
    verdict(s3, bucket, prefix, {"passed": "true", "release": document["release"]}, built.stdout.encode())
    return 0


GATE_FAILED = 2  # `turnout` exits so for an error that the user can mend, such as a gate that is not met


def verdict(s3: Any, bucket: str, prefix: str, metadata: dict[str, str], body: bytes) -> None:
    """verdict.json; the state machine reads its metadata."""
    s3.put_object(Bucket=bucket, Key=f"{prefix}/verdict.json", Body=body, Metadata=metadata)


def fetch_trained(uri: str, s3: Any, folder: Path) -> None:
    """The job's model.tar.gz, unpacked into `folder`."""
    bucket, key = split(uri)
    archive = folder / "model.tar.gz"
    s3.download_file(bucket, key, str(archive))
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")


def split(uri: str) -> tuple[str, str]:
    """Bucket and key of an s3:// URI."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not uri.startswith("s3://") or not key:
        raise InvalidConfig("URI", uri, "s3://BUCKET/KEY")
    return bucket, key


def named(environment: Mapping[str, str], name: str) -> str:
    """The variable, or an InvalidConfig that names it."""
    value = environment.get(name, "")
    if not value:
        raise InvalidConfig(name, value, "a non-empty value")
    return value


if __name__ == "__main__":
    import boto3

    try:
        sys.exit(main(sys.argv[1:], os.environ, boto3.client("s3")))
    except TurnoutError as error:
        print(f"turnout: error: {error}", file=sys.stderr)
        sys.exit(1)
