"""A release from the local store into the bucket, its pointer in SSM; and from a bucket into a folder."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handlers.errors import LocalCloudError, PointerMissing

if TYPE_CHECKING:
    import boto3


@dataclass(frozen=True, slots=True)
class LocalRelease:
    """One release in the local store."""

    model: str
    release: str
    folder: Path

    @property
    def manifest_sha256(self) -> str:
        return hashlib.sha256((self.folder / "manifest.json").read_bytes()).hexdigest()

    def manifest(self) -> Mapping[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "manifest.json").read_bytes())
        return found

    def files(self) -> list[str]:
        """Every file that the manifest lists, and the manifest."""
        return ["manifest.json", *sorted(self.manifest()["files"])]


def current(store: Path, model: str) -> LocalRelease:
    """The model's current release. Raises PointerMissing when nothing has been built."""
    pointer = store / model / "current"
    if not pointer.is_file():
        raise PointerMissing(f"no release of {model} in {store}: turnout build {model}")
    release = pointer.read_text().strip()
    folder = store / model / release
    if not (folder / "manifest.json").is_file():
        raise PointerMissing(f"release {release} of {model} is not in {store}: turnout build {model}")
    return LocalRelease(model, release, folder)


def upload(session: boto3.Session, bucket: str, release: LocalRelease) -> None:
    """Puts every file under releases/{model}/{release}/, the manifest last."""
    s3 = session.client("s3")
    for name in reversed(release.files()):
        key = f"releases/{release.model}/{release.release}/{name}"
        s3.put_object(Bucket=bucket, Key=key, Body=(release.folder / name).read_bytes())


def point(session: boto3.Session, parameter: str, release: LocalRelease) -> None:
    """Makes the functions serve this release."""
    value = json.dumps({"release": release.release, "manifest_sha256": release.manifest_sha256})
    session.client("ssm").put_parameter(Name=parameter, Value=value, Type="String", Overwrite=True)


def download(session: boto3.Session, uri: str, cache: Path) -> Path:
    """The files under an s3:// prefix as a folder, as SageMaker lays them out in /opt/ml/model.

    A release's prefix ends in its content hash, so a folder that is there is the same. Raises LocalCloudError
    when nothing is under the prefix.
    """
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    folder = cache / prefix.strip("/").replace("/", "-")
    if folder.is_dir():
        return folder
    s3 = session.client("s3")
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    keys = [found["Key"] for page in pages for found in page.get("Contents", [])]
    if not keys:
        raise LocalCloudError(f"model data {uri}: nothing is there")
    cache.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=cache))
    for key in keys:
        target = fresh / key.removeprefix(prefix)
        target.parent.mkdir(parents=True, exist_ok=True)
        s3.download_file(bucket, key, str(target))
    if folder.is_dir():
        shutil.rmtree(fresh)
    else:
        fresh.rename(folder)
    return folder
