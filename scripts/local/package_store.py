"""Function packages fetched from AWS by their GetFunction link and unzipped, one folder per content."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import shutil
import tempfile
import urllib.request
import zipfile
from pathlib import Path

from handlers.errors import LocalCloudError


def fetch(code_url: str, code_sha256: str, cache: Path) -> Path:
    """The unzipped package; fetched only when its content is not there yet.

    Raises LocalCloudError when what comes does not have the base64 sha256 that AWS states.
    """
    folder = cache / hashlib.sha256(code_sha256.encode()).hexdigest()[:16]
    if folder.is_dir():
        return folder
    with urllib.request.urlopen(code_url) as answer:  # noqa: S310  # the link that our own moto gave
        data = answer.read()
    found = base64.b64encode(hashlib.sha256(data).digest()).decode()
    if found != code_sha256:
        raise LocalCloudError(f"package {code_url} has sha256 {found}, AWS states {code_sha256}")
    cache.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=cache))
    with zipfile.ZipFile(io.BytesIO(data)) as package:
        package.extractall(fresh)
    os.utime(fresh)
    try:
        fresh.rename(folder)
    except OSError:  # another sandbox unzipped the same content meanwhile
        shutil.rmtree(fresh)
    return folder
