"""What the builder (CodeBuild) runs for the training state machine: prepare, compress, deploy or rollback.

    python -m scripts.remote_build compress

Its inputs are environment variables: TURNOUT_STAGE, TURNOUT_MODEL, TURNOUT_BUCKET, TURNOUT_JOB (the s3://
folder of the execution), TURNOUT_DATA (that of the training channel), TURNOUT_TRAINED (the job's
model.tar.gz) and TURNOUT_RELEASE.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handlers.errors import InvalidConfig, TurnoutError

COMMANDS = ("prepare", "compress", "deploy", "rollback")
PREPARED = "prepared.json"
REFUSED = 2  # `turnout` exits so for an error that it explains, such as a gate that is not met


@dataclass(frozen=True, slots=True)
class Done:
    """A `turnout` command that has ended: `out` is its stdout, `last` the last line of its stderr."""

    code: int
    out: str
    last: str


Run = Callable[[list[str], Mapping[str, str]], Done]
Load = Callable[[str, Path], int]


def turnout(command: list[str], environment: Mapping[str, str]) -> Done:
    """Runs the `turnout` command; its progress is shown as it comes."""
    line, last = [sys.executable, "-m", "scripts.cli", *command], ""
    with (
        tempfile.TemporaryFile("w+") as out,
        subprocess.Popen(line, env=dict(environment), stdout=out, stderr=subprocess.PIPE, text=True) as run,
    ):
        assert run.stderr is not None  # noqa: S101  # asked for with PIPE
        for told in run.stderr:
            sys.stderr.write(told)
            last = told.strip() or last
        code = run.wait()
        out.seek(0)
        return Done(code, out.read(), last)


def load_recipe(model: str, folder: Path) -> int:
    """Lets the model's recipe read its data from `folder`, into which it downloads; returns its examples.

    Raises BuildError for data that cannot be had or is not what the recipe was written for.
    """
    os.environ["TURNOUT_DATA_DIR"] = str(folder)
    from model_build import data
    from model_build.recipes import find
    from scripts.commands.build import recipe_of

    return len(data.load(find(recipe_of(model))).train)


def main(
    arguments: list[str],
    environment: Mapping[str, str],
    s3: Any,
    run: Run = turnout,
    load: Load = load_recipe,
) -> int:
    """Runs one command; the exit code is CodeBuild's."""
    if len(arguments) != 1 or arguments[0] not in COMMANDS:
        raise InvalidConfig("TURNOUT_COMMAND", " ".join(arguments), "one of " + ", ".join(COMMANDS))
    stage, model = named(environment, "TURNOUT_STAGE"), named(environment, "TURNOUT_MODEL")
    if arguments[0] == "prepare":
        prepare(model, environment, s3, load)
        return 0
    if arguments[0] == "compress":
        return compress(stage, model, environment, s3, run)
    release = named(environment, "TURNOUT_RELEASE")
    if arguments[0] == "deploy":
        canary = ["--canary", "10%", "--minutes", "10"]
        return run(["release", "deploy", f"{model}@{release}", "--stage", stage, *canary], environment).code
    # A deployment that failed has put everything back itself; only from one that stands is there a way back.
    back = ["release", "rollback", model, "--stage", stage, "--leaving", release]
    return run(back, environment).code


def prepare(model: str, environment: Mapping[str, str], s3: Any, load: Load) -> None:
    """Fills the training channel: what the recipe needs and the bucket does not hold yet, once it is checked.

    Files that are there already (a team's own data) are what the recipe reads; the job reaches no network.
    """
    bucket, prefix = split(named(environment, "TURNOUT_DATA"))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        there = fetch_data(s3, bucket, prefix, folder)
        examples = load(model, folder)
        files = {
            path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()
        }
        for name, path in files.items():
            if name not in there:
                s3.upload_file(str(path), bucket, f"{prefix}/{name}")
        sums = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    body = json.dumps({"model": model, "examples": examples, "files": sums}, indent=1, sort_keys=True)
    s3.put_object(Bucket=bucket, Key=f"{prefix}/{PREPARED}", Body=body.encode())
    print(f"{len(sums)} files in s3://{bucket}/{prefix}, {len(sums) - len(there)} of them new", flush=True)


def compress(stage: str, model: str, environment: Mapping[str, str], s3: Any, run: Run) -> int:
    """Goes on from the trained steps to a pushed release, and writes the verdict of the gates beside the job.

    A build that is refused is a verdict with its reason; anything else that fails fails the build.
    """
    bucket, prefix = split(named(environment, "TURNOUT_JOB"))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        fetch_trained(named(environment, "TURNOUT_TRAINED"), s3, folder)
        inside = {**environment, "TURNOUT_CACHE_DIR": str(folder / "cache")}
        if fetch_data(s3, *split(named(environment, "TURNOUT_DATA")), folder / "data"):
            inside["TURNOUT_DATA_DIR"] = str(folder / "data")
        built = run(["build", model, "--json"], inside)
    if built.code == REFUSED:
        why = json.dumps({"error": built.last}).encode()
        verdict(s3, bucket, prefix, {"passed": "false", "release": "none"}, why)
        return 0
    if built.code:
        return built.code
    document = json.loads(built.out)
    pushed = run(["release", "push", f"{model}@{document['release']}", "--stage", stage], environment)
    if pushed.code:
        return pushed.code
    verdict(s3, bucket, prefix, {"passed": "true", "release": document["release"]}, built.out.encode())
    return 0


def verdict(s3: Any, bucket: str, prefix: str, metadata: dict[str, str], body: bytes) -> None:
    """verdict.json; the state machine reads its metadata."""
    s3.put_object(Bucket=bucket, Key=f"{prefix}/verdict.json", Body=body, Metadata=metadata)


def fetch_data(s3: Any, bucket: str, prefix: str, folder: Path) -> set[str]:
    """Copies the files of the training channel into `folder`; returns their names."""
    names = set()
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/"):
        for entry in page.get("Contents", ()):
            name = entry["Key"].removeprefix(f"{prefix}/")
            if name and name != PREPARED and not name.endswith("/"):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                s3.download_file(bucket, entry["Key"], str(folder / name))
                names.add(name)
    return names


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
    return bucket, key.rstrip("/")


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
