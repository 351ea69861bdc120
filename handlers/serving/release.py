"""From the pointer to a served release: fetch, verify, open, warm up; a bad one never replaces a good one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from handlers.errors import InvalidInput, PointerMissing, ReleaseError, ReleaseTampered
from handlers.routing.profile import Profile
from handlers.serving import manifest as manifests
from handlers.serving.manifest import MANIFEST_NAME, Manifest

if TYPE_CHECKING:
    from handlers.serving.preprocess import Preprocessor
    from handlers.serving.session import OnnxSession


class ReleaseSource(Protocol):
    """Where releases are published."""

    def pointer(self) -> str:
        """The pointer's text. Raises PointerMissing when there is none."""
        ...

    def read(self, release: str, name: str) -> bytes:
        """One file of a release. Raises ReleaseError when it cannot be read."""
        ...


class Pointer(NamedTuple):
    """Which release to serve, and the sha256 of its manifest."""

    release: str
    manifest_sha256: str


class Served(NamedTuple):
    """A release that is open; `session` is None in a front, which asks the model's function instead."""

    manifest: Manifest
    profile: Profile
    preprocess: Preprocessor
    session: OnnxSession | None


def parse_pointer(text: str) -> Pointer:
    """Raises PointerMissing for `none` and ReleaseError for anything else that is not a pointer."""
    if text == "none":
        raise PointerMissing("the pointer says 'none': no release has been published; push one")
    try:
        document = json.loads(text)
        pointer = Pointer(document["release"], document["manifest_sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise ReleaseError(
            f"pointer: {text[:120]!r} is not allowed; allowed: a JSON object with release and manifest_sha256"
        ) from error
    if not isinstance(pointer.manifest_sha256, str) or pointer.manifest_sha256[:16] != pointer.release:
        raise ReleaseError(f"pointer: release {pointer.release!r} is not the start of its manifest_sha256")
    return pointer


def fetch(source: ReleaseSource, pointer: Pointer, root: Path, *, with_graph: bool) -> Manifest:
    """Bring a release's manifest and cpu files to `root/<release>`, each verified before it gets its name.

    A file that is already there and intact is kept. Raises ReleaseTampered or ReleaseError.
    """
    raw = source.read(pointer.release, MANIFEST_NAME)
    manifest = manifests.parse(raw)
    if manifest.sha256 != pointer.manifest_sha256:
        raise ReleaseTampered(
            f"{pointer.release}/{MANIFEST_NAME}: sha256 is {manifest.sha256},"
            f" the pointer states {pointer.manifest_sha256}"
        )
    for name in cpu_files(manifest, with_graph=with_graph):
        _fetch_file(source, manifest, name, root / pointer.release)
    return manifest


def cpu_files(manifest: Manifest, *, with_graph: bool) -> list[str]:
    """What a function needs of a release: all under `cpu/`, or in a front just the vocabulary."""
    if with_graph:
        return [name for name in manifest.files if name.startswith("cpu/")]
    return [name for name in manifest.files if name == manifest.preprocess.vocabulary]


def open_release(folder: Path, manifest: Manifest, threads: int, *, with_graph: bool) -> Served:
    """Open a fetched release and run it once. Raises ReleaseError when it cannot serve."""
    from handlers.serving import preprocess  # numpy: not before the network has been asked

    try:
        profile = Profile.parse(manifest.profile)
    except InvalidInput as error:
        raise ReleaseError(f"{manifest.release}/{MANIFEST_NAME}: profile: {error}") from error
    session = None
    if with_graph:
        from handlers.serving.session import OnnxSession  # a front never imports ONNX Runtime

        session = OnnxSession(folder / manifest.cpu.file, manifest, threads)
        session.warm_up(manifest.tensors)
    transform = preprocess.build(manifest.preprocess, lambda name: (folder / name).read_bytes())
    return Served(manifest, profile, transform, session)


def _fetch_file(source: ReleaseSource, manifest: Manifest, name: str, folder: Path) -> None:
    path, stated = folder / name, manifest.files[name]
    if path.is_file() and manifests.file_entry(path) == stated:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_bytes(source.read(manifest.release, name))
    try:
        manifests.check_entry(f"{manifest.release}/{name}", stated, manifests.file_entry(partial))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
