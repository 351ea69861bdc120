"""The recordings are checked by what they are, not by how they are packed."""

from __future__ import annotations

import io
import tarfile

import pytest

from handlers.errors import BuildError
from model_build.recipes.speech import digest


def packed(prefix: str, level: int, sound: bytes = b"RIFF-one") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=level) as tar:
        for name, content in (("1_theo_3", b"RIFF-two"), ("0_lucas_0", sound)):
            entry = tarfile.TarInfo(f"{prefix}recordings/{name}.wav")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        tar.addfile(tarfile.TarInfo(f"{prefix}README.md"))
    return out.getvalue()


def test_GivenAnotherArchiveOfTheSameRecordings_WhenHashed_ThenItIsTheSame() -> None:
    assert digest(packed("", 1)) == digest(packed("free-spoken-digit-dataset-26eb9aa/", 9))


def test_GivenAChangedRecording_WhenHashed_ThenItIsAnother() -> None:
    assert digest(packed("", 1)) != digest(packed("", 1, b"RIFF-One"))


def test_GivenHalfAnArchive_WhenHashed_ThenItIsRefused() -> None:
    with pytest.raises(BuildError, match=r"fsdd: not a whole tar\.gz"):
        digest(packed("", 1)[:60])
