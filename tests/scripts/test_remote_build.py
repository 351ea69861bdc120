"""What CodeBuild runs, with S3 in moto and a `turnout` that says what it was asked."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from handlers.errors import BuildError, InvalidConfig
from scripts import remote_build
from scripts.remote_build import Done, main

RELEASE = "0123456789abcdef"
ENVIRONMENT = {
    "TURNOUT_STAGE": "dev",
    "TURNOUT_MODEL": "digits",
    "TURNOUT_BUCKET": "releases",
    "TURNOUT_JOB": "s3://releases/training/digits/run",
    "TURNOUT_DATA": "s3://releases/data/digits/",
    "TURNOUT_TRAINED": "s3://releases/training/digits/run/output/model.tar.gz",
    "TURNOUT_RELEASE": RELEASE,
}


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="releases")
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w:gz") as packed:
            member = tarfile.TarInfo("cache/digits/teacher-1/result.json")
            member.size = 2
            packed.addfile(member, io.BytesIO(b"{}"))
        client.put_object(
            Bucket="releases", Key="training/digits/run/output/model.tar.gz", Body=archive.getvalue()
        )
        yield client


class Turnout:
    """Answers `turnout` commands by their first words, and remembers them with what they found."""

    def __init__(self, **codes: int) -> None:
        self.codes, self.asked, self.found = codes, list[list[str]](), list[str]()

    def __call__(self, command: list[str], environment: Mapping[str, str]) -> Done:
        self.asked.append(command)
        for variable in ("TURNOUT_CACHE_DIR", "TURNOUT_DATA_DIR"):
            if command[0] == "build" and variable in environment:
                folder = Path(environment[variable])
                self.found += [str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()]
        code = self.codes.get(command[0], 0)
        return Done(code, json.dumps({"release": RELEASE}), "turnout: error: gate accuracy: 0.4 < 0.9")


def verdict(s3: Any) -> tuple[dict[str, str], dict[str, Any]]:
    found = s3.get_object(Bucket="releases", Key="training/digits/run/verdict.json")
    return found["Metadata"], json.loads(found["Body"].read())


def nothing(_model: str, _folder: Path) -> int:
    return 7


def test_compress_goes_on_from_the_trained_steps_and_the_channels_data(s3: Any):
    s3.put_object(Bucket="releases", Key="data/digits/a/b.csv", Body=b"1,2")
    turnout = Turnout()
    assert main(["compress"], ENVIRONMENT, s3, turnout) == 0
    assert turnout.asked == [
        ["build", "digits", "--json"],
        ["release", "push", f"digits@{RELEASE}", "--stage", "dev"],
    ]
    assert turnout.found == ["digits/teacher-1/result.json", "a/b.csv"]
    assert verdict(s3)[0] == {"passed": "true", "release": RELEASE}


def test_a_gate_that_is_not_met_is_a_verdict_with_its_reason(s3: Any):
    turnout = Turnout(build=2)
    assert main(["compress"], ENVIRONMENT, s3, turnout) == 0
    assert len(turnout.asked) == 1, "nothing is pushed"
    metadata, body = verdict(s3)
    assert metadata == {"passed": "false", "release": "none"}
    assert "gate accuracy" in body["error"]


@pytest.mark.parametrize("codes", [{"build": 1}, {"release": 1}])
def test_anything_else_that_fails_fails_the_build_without_a_verdict(s3: Any, codes: dict[str, int]):
    assert main(["compress"], ENVIRONMENT, s3, Turnout(**codes)) == 1
    with pytest.raises(s3.exceptions.NoSuchKey):
        verdict(s3)


def test_prepare_uploads_what_the_recipe_fetched_and_keeps_what_is_there(s3: Any, capsys: Any):
    # Given one file that a team has put there, and a recipe that fetches another
    s3.put_object(Bucket="releases", Key="data/digits/own.csv", Body=b"mine")

    def load(model: str, folder: Path) -> int:
        assert (folder / "own.csv").read_bytes() == b"mine"
        (folder / "sub").mkdir()
        (folder / "sub" / "fetched.bin").write_bytes(b"x")
        return 100

    assert main(["prepare"], ENVIRONMENT, s3, load=load) == 0
    body = json.loads(s3.get_object(Bucket="releases", Key="data/digits/prepared.json")["Body"].read())
    assert (body["model"], body["examples"]) == ("digits", 100)
    assert sorted(body["files"]) == ["own.csv", "sub/fetched.bin"]
    assert s3.get_object(Bucket="releases", Key="data/digits/sub/fetched.bin")["Body"].read() == b"x"
    assert "1 of them new" in capsys.readouterr().out


def test_a_recipe_without_files_still_has_a_channel(s3: Any):
    assert main(["prepare"], ENVIRONMENT, s3, load=nothing) == 0
    assert "Contents" in s3.list_objects_v2(Bucket="releases", Prefix="data/digits/")


def test_data_that_the_recipe_refuses_reaches_no_channel(s3: Any):
    def refuse(_model: str, _folder: Path) -> int:
        raise BuildError("sst2/train.tsv: sha256 of its content is …")

    with pytest.raises(BuildError, match="sha256"):
        main(["prepare"], ENVIRONMENT, s3, load=refuse)
    assert "Contents" not in s3.list_objects_v2(Bucket="releases", Prefix="data/digits/")


def test_a_recipe_reads_its_data_from_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TURNOUT_DATA_DIR", "")
    assert remote_build.load_recipe("digits", tmp_path) > 100
    assert os.environ["TURNOUT_DATA_DIR"] == str(tmp_path)


def test_deploy_and_rollback_are_the_commands_that_a_person_would_type(s3: Any):
    turnout = Turnout()
    assert main(["deploy"], ENVIRONMENT, s3, turnout) == 0
    assert main(["rollback"], ENVIRONMENT, s3, turnout) == 0
    assert main(["rollback"], ENVIRONMENT, s3, Turnout(release=3)) == 3
    assert turnout.asked == [
        ["release", "deploy", f"digits@{RELEASE}", "--stage", "dev", "--canary", "10%", "--minutes", "10"],
        ["release", "rollback", "digits", "--stage", "dev", "--leaving", RELEASE],
    ]


@pytest.mark.parametrize(
    ("arguments", "change", "message"),
    [
        (["polish"], {}, "one of prepare, compress, deploy, rollback"),
        (["deploy"], {"TURNOUT_RELEASE": ""}, "TURNOUT_RELEASE"),
        (["compress"], {"TURNOUT_JOB": "releases/x"}, "s3://BUCKET/KEY"),
    ],
)
def test_what_is_missing_or_unknown_is_named(
    s3: Any, arguments: list[str], change: dict[str, str], message: str
):
    with pytest.raises(InvalidConfig, match=message):
        main(arguments, {**ENVIRONMENT, **change}, s3, Turnout())


@pytest.mark.slow
def test_the_turnout_command_is_run_and_its_last_word_kept():
    done = remote_build.turnout(["release", "deploy", "digits", "--canary", "101%"], os.environ)
    assert done.code == 2
    assert "canary" in done.last
