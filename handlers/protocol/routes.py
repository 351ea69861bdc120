"""Paths and methods → what to do: the Open Inference Protocol's endpoints and `/route`.

A table of our own, by measurement: Powertools' HTTP resolver adds more to a cold start than the rest of this
package's Python together (numbers in docs/api.md), and there are eight routes.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from handlers.errors import InvalidInput, UnknownModel

_ROUTE = re.compile(
    r"/v2(?:/(?P<health>health/live|health/ready)"
    r"|/models/(?P<model>[^/]+)(?:/versions/(?P<version>[^/]+))?(?P<action>/ready|/infer|/route)?)?/?"
)
_METHODS = {"infer": ("POST",), "route": ("GET", "POST")}
ALLOWED = (
    "/v2, /v2/health/live, /v2/health/ready,"
    " /v2/models/{model}[/versions/{version}] and its /ready, /infer, /route"
)


class Route(NamedTuple):
    """`action` is one of: server, live, ready, metadata, infer, route."""

    action: str
    version: str | None = None


class NotFound(InvalidInput):
    """Raised when the path is none of ours (404)."""


class MethodNotAllowed(InvalidInput):
    """Raised when the path is ours and the method is not (405)."""


@lru_cache(maxsize=64)
def match(method: str, path: str, model: str) -> Route:
    """Raises NotFound, MethodNotAllowed, and UnknownModel for a model that this function does not serve."""
    found = _ROUTE.fullmatch(path)
    if found is None:
        raise NotFound("path", path, ALLOWED)
    route = _route(found, model)
    allowed = _METHODS.get(route.action, ("GET",))
    if method not in allowed:
        raise MethodNotAllowed("method", method, f"{' or '.join(allowed)} {path}")
    return route


def _route(found: re.Match[str], model: str) -> Route:
    if found["health"]:
        return Route(found["health"].removeprefix("health/"))
    if not found["model"]:
        return Route("server")
    if found["model"] != model:
        raise UnknownModel("model", found["model"], model)
    return Route((found["action"] or "/metadata").removeprefix("/"), found["version"])
