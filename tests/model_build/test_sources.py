import gzip
import hashlib
import io
from pathlib import Path
from typing import BinaryIO

import pytest

from handlers.errors import BuildError
from model_build.sources import Source, fetch_url, folders, read

CONTENT = b"sentence\t1\n" * 100
SOURCE = Source("set/part.gz", "https://example.org/part.gz", hashlib.sha256(CONTENT).hexdigest())


def never(url: str) -> BinaryIO:
    raise AssertionError(f"{url} was fetched")


def offline(url: str) -> BinaryIO:
    raise TimeoutError("no route")


def put(folder: Path, content: bytes) -> dict[str, str]:
    (folder / "set").mkdir(parents=True)
    (folder / "set/part.gz").write_bytes(content)
    return {"TURNOUT_DATA_DIR": str(folder)}


def test_GivenAFileInTheNamedFolder_WhenRead_ThenNothingIsFetched(tmp_path: Path) -> None:
    assert read(SOURCE, put(tmp_path, gzip.compress(CONTENT)), never) == CONTENT


def test_GivenTwoWaysToCompress_WhenRead_ThenTheChecksumIsThatOfTheContent(tmp_path: Path) -> None:
    assert read(SOURCE, put(tmp_path, gzip.compress(CONTENT, 1)), never) == CONTENT


def test_GivenNoVariable_WhenLookedFor_ThenTheSharedFolderComesFirst(tmp_path: Path) -> None:
    root = tmp_path / "turnout"
    put(tmp_path / "shared" / "data", gzip.compress(CONTENT))
    assert read(SOURCE, {}, never, root) == CONTENT
    assert folders({}, root) == (tmp_path / "shared" / "data", root / ".turnout" / "data")


def test_GivenNoFile_WhenRead_ThenItIsDownloadedOnce(tmp_path: Path) -> None:
    environment = {"TURNOUT_DATA_DIR": str(tmp_path)}
    asked = []

    def fetch(url: str) -> BinaryIO:
        asked.append(url)
        return io.BytesIO(gzip.compress(CONTENT))

    assert [read(SOURCE, environment, fetch) for _ in range(2)] == [CONTENT, CONTENT]
    assert asked == [SOURCE.url]


def test_GivenNoNetwork_WhenRead_ThenTheErrorSaysWhereToPutTheFile(tmp_path: Path) -> None:
    with pytest.raises(
        BuildError, match=r"cannot be downloaded .*no route.*put it at .*part\.gz or set TURN"
    ):
        read(SOURCE, {"TURNOUT_DATA_DIR": str(tmp_path)}, offline)
    assert not list(tmp_path.rglob("*part*"))


def test_GivenAnotherContent_WhenRead_ThenBothChecksumsAreNamed(tmp_path: Path) -> None:
    environment = put(tmp_path, gzip.compress(CONTENT + b"!"))
    with pytest.raises(BuildError, match=f"sha256 of its content is .* expected {SOURCE.sha256}"):
        read(SOURCE, environment, never)


def test_GivenHalfAGzip_WhenRead_ThenTheErrorNamesTheFile(tmp_path: Path) -> None:
    environment = put(tmp_path, gzip.compress(CONTENT)[:-9])
    with pytest.raises(BuildError, match="not a whole gzip file"):
        read(SOURCE, environment, never)


def test_GivenAPlainHttpAddress_WhenFetched_ThenItIsRefused() -> None:
    with pytest.raises(BuildError, match="only https"):
        fetch_url("http://example.org/x")
