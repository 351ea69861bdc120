"""The image of the GPU server: where it is, and the CodeBuild project that makes it without Docker here."""

from __future__ import annotations

import hashlib
from pathlib import Path

import aws_cdk as cdk

from infra.deployment import Deployment

SERVER = Path(__file__).parent.parent.parent / "model_build" / "gpu_server"


def image_tag(server: Path = SERVER) -> str:
    """The tag (16 hex) of the image of the present sources: a hash of everything that goes into it."""
    digest = hashlib.sha256()
    handlers = server.parent.parent / "handlers"
    for path in sorted((*server.parent.rglob("*"), *handlers.rglob("*.py"))):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(server.parent.parent)}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def image_uri(stack: cdk.Stack, deployment: Deployment, kind: str = "serving") -> str:
    """The image (`serving` or `training`) that CodeBuild pushes for the present sources, in this account."""
    registry = f"{stack.account}.dkr.ecr.{stack.region}.{stack.url_suffix}"
    return f"{registry}/{deployment.names.images}:{kind}-{image_tag()}"
