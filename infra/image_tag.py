"""The tag of the images that CodeBuild makes: it says which sources they hold."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

SERVER = Path(__file__).parent.parent / "model_build" / "gpu_server"


@cache
def image_tag(server: Path = SERVER) -> str:
    """The tag (16 hex) of the image of the present sources: a hash of everything that goes into it."""
    digest = hashlib.sha256()
    handlers = server.parent.parent / "handlers"
    for path in sorted((*server.parent.rglob("*"), *handlers.rglob("*.py"))):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(server.parent.parent)}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
