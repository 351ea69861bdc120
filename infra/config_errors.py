"""From a pydantic error to one InvalidConfig that names the key, its value and what is allowed there."""

from __future__ import annotations

from collections.abc import Mapping
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails, PydanticCustomError

from handlers.errors import InvalidConfig


def refuse(field: str, value: object, allowed: str) -> PydanticCustomError:
    """What a validator raises when `field`, relative to its section, has a `value` that is not allowed."""
    return PydanticCustomError("turnout", "{field}", {"field": field, "value": value, "allowed": allowed})


def explain(error: ErrorDetails, root: type[BaseModel]) -> InvalidConfig:
    """The InvalidConfig for one pydantic `error` in a file whose top level is `root`."""
    keys, section, allowed = _locate(error["loc"], root)
    context = error.get("ctx", {})
    if error["type"] == "turnout":
        field = ".".join(part for part in (*keys, context["field"]) if part)
        return InvalidConfig(f"turnout.toml {field}", context["value"], context["allowed"])
    if error["type"] == "extra_forbidden" and section is not None:
        allowed = "no such key here; the keys are " + ", ".join(section.model_fields)
    elif error["type"] == "missing":
        return InvalidConfig(f"turnout.toml {'.'.join(keys)}", "(missing)", allowed)
    elif error["type"] == "literal_error" and not allowed:
        allowed = context["expected"].replace("'", "")
    return InvalidConfig(f"turnout.toml {'.'.join(keys)}", error["input"], allowed or error["msg"])


def _locate(
    location: tuple[int | str, ...], root: type[BaseModel]
) -> tuple[list[str], type[BaseModel] | None, str]:
    """The keys of a pydantic location as the file has them, the section of the last, what it allows."""
    keys: list[str] = []
    section: type[BaseModel] | None = root
    annotation: Any = None
    allowed = ""
    for part in location:
        fields = section.model_fields if section is not None else {}
        if section is not None and part in fields:
            annotation, allowed = fields[str(part)].annotation, fields[str(part)].description or ""
            keys.append(str(part))
            section, inside = None, _section_in(annotation)
            if get_origin(annotation) is not Mapping:
                section = inside
            continue
        keys.append(str(part))
        section, annotation = section or _section_in(annotation), None
    return [key for key in keys if not _is_branch(key)], section, allowed


def _section_in(annotation: Any) -> type[BaseModel] | None:
    """The BaseModel class inside an Optional or a Mapping annotation, if there is one."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, UnionType, Mapping):
        found = (_section_in(argument) for argument in get_args(annotation))
        return next((section for section in found if section is not None), None)
    return None


def _is_branch(key: str) -> bool:
    """Whether pydantic, not the file, put `key` into a location: a branch of a union, or a bad key."""
    return key in ("int", "str", "[key]") or key.startswith(("literal[", "constrained"))
