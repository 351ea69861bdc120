"""Where the images of the GPU server and of training are: CodeBuild makes them, without Docker here."""

from __future__ import annotations

import aws_cdk as cdk

from infra.deployment import Deployment
from infra.image_tag import image_tag


def image_uri(stack: cdk.Stack, deployment: Deployment, kind: str = "serving") -> str:
    """The image (`serving` or `training`) that CodeBuild pushes for the present sources, in this account."""
    registry = f"{stack.account}.dkr.ecr.{stack.region}.{stack.url_suffix}"
    return f"{registry}/{deployment.names.images}:{kind}-{image_tag()}"
