"""Where a recipe's files come from: a data folder that is there, else a download checked by sha256."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from handlers.errors import BuildError

ROOT = Path(__file__).resolve().parent.parent


def sha256_of(content: bytes) -> str:
    """The sha256 of the bytes as they are, in hex."""
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True, slots=True)
class Source:
    """One file: its path inside the data folder, its public address, the sha256 of its content.

    The content of a `.gz` is what is inside, so that two ways to compress it are the same file. `digest`: how
    the content is hashed, where the same data comes packed in several ways (an archive: its members).
    """

    path: str
    url: str
    sha256: str
    digest: Callable[[bytes], str] = sha256_of


def fetch_url(url: str) -> BinaryIO:
    """The open body of an HTTPS address."""
    if not url.startswith("https://"):
        raise BuildError(f"refusing to download {url}: only https addresses are allowed")
    return urllib.request.urlopen(url, timeout=60)  # type: ignore[no-any-return]  # noqa: S310  # https only, above


def folders(environment: Mapping[str, str], root: Path = ROOT) -> tuple[Path, ...]:
    """Where data is looked for, in order; the last is where downloads go."""
    named = environment.get("TURNOUT_DATA_DIR")
    if named:
        return (Path(named),)
    return (root.parent / "shared" / "data", root / ".turnout" / "data")


def read(
    source: Source,
    environment: Mapping[str, str] = os.environ,
    fetch: Callable[[str], BinaryIO] = fetch_url,
    root: Path = ROOT,
) -> bytes:
    """The checked content of a source, downloaded first if it is in no data folder.

    Raises BuildError when it cannot be had or its content is not what the recipe was written for.
    """
    places = [folder / source.path for folder in folders(environment, root)]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        file = places[-1]
        _download(source, file, fetch)
    content = _content(file)
    found = source.digest(content)
    if found != source.sha256:
        raise BuildError(
            f"{file}: sha256 of its content is {found}, expected {source.sha256}: "
            f"the file is damaged or is another one; delete it, or fetch it from {source.url}"
        )
    return content


def _content(file: Path) -> bytes:
    if file.suffix != ".gz" or file.name.endswith(".tar.gz"):
        return file.read_bytes()
    try:
        return gzip.decompress(file.read_bytes())
    except (OSError, EOFError) as error:
        raise BuildError(f"{file}: not a whole gzip file ({error}); delete it and fetch it again") from error


def _download(source: Source, file: Path, fetch: Callable[[str], BinaryIO]) -> None:
    part = file.with_name(file.name + ".part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with fetch(source.url) as body, part.open("wb") as out:
            shutil.copyfileobj(body, out)
        part.rename(file)
    except (urllib.error.URLError, TimeoutError, OSError) as error:
        raise BuildError(
            f"{source.path} is not in a data folder and cannot be downloaded from {source.url} ({error}); "
            f"put it at {file} or set TURNOUT_DATA_DIR to a folder that has {source.path}"
        ) from error
    finally:
        part.unlink(missing_ok=True)
