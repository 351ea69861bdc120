"""AWS's deep learning images that turnout's own are built on, with the day on which their patches end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from handlers.errors import InvalidConfig

WARN_AHEAD = timedelta(days=90)
DEFAULT_ACCOUNT = "763104351884"
ACCOUNTS = {"af-south-1": "626614931356"}  # regions whose registry is another account's


@dataclass(frozen=True, slots=True)
class BaseImage:
    """`path` is repository and tag; `patched_until` is their last day, as known on `as_of`."""

    name: str
    path: str
    patched_until: date
    as_of: date


IMAGES = {
    image.name: image
    for image in (
        BaseImage(
            "pytorch-2.13", "pytorch:2.13-cu133-amzn2023-sagemaker", date(2027, 7, 20), date(2026, 11, 1)
        ),
        BaseImage("pytorch-inference-2.6", "pytorch-inference:2.6-gpu", date(2026, 6, 30), date(2026, 11, 1)),
    )
}
DEFAULT = "pytorch-2.13"


def base_image(name: str = DEFAULT) -> BaseImage:
    """The image called `name`; InvalidConfig lists those known."""
    if name not in IMAGES:
        raise InvalidConfig("base image", name, "one of " + ", ".join(IMAGES))
    return IMAGES[name]


def uri(image: BaseImage, region: str) -> str:
    """Where `region` pulls the image from."""
    account = ACCOUNTS.get(region, DEFAULT_ACCOUNT)
    return f"{account}.dkr.ecr.{region}.amazonaws.com/{image.path}"


def warning(image: BaseImage, today: date) -> str | None:
    """What to say at synth, if the image's patches have ended or end within 90 days."""
    left = image.patched_until - today
    if left > WARN_AHEAD:
        return None
    when = "ended" if left < timedelta() else "end"
    return (
        f"the base image {image.name} gets no more security patches: they {when} on {image.patched_until} "
        f"(as of {image.as_of}); name a newer one in infra/base_images.py"
    )
