"""Typed reading of the JSON objects of a manifest; a failure names field, value and what is allowed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from handlers.errors import ReleaseError

Choice = TypeVar("Choice", bound=str)


def refuse(field: str, value: object, allowed: str) -> ReleaseError:
    """The error for a field of the manifest that holds something else than it may."""
    return ReleaseError(f"manifest.json: {field}: {repr(value)[:120]} is not allowed; allowed: {allowed}")


def as_mapping(field: str, value: object) -> Mapping[str, Any]:
    """`value` if it is a JSON object. Raises ReleaseError otherwise."""
    if not isinstance(value, dict):
        raise refuse(field or "(root)", value, "a JSON object")
    return value


class Reader:
    """One JSON object at the dotted path `prefix`."""

    def __init__(self, prefix: str, document: Mapping[str, Any]) -> None:
        self._prefix = prefix
        self._document = document

    def field(self, key: str) -> str:
        """The dotted path of `key`, for messages."""
        return f"{self._prefix}.{key}" if self._prefix else key

    def get(self, key: str) -> Any:
        """The raw value, None when it is absent."""
        return self._document.get(key)

    def text(self, key: str) -> str:
        """A non-empty string."""
        value = self.get(key)
        if not isinstance(value, str) or not value:
            raise refuse(self.field(key), value, "a non-empty string")
        return value

    def choice(self, key: str, allowed: tuple[Choice, ...], default: Choice | None = None) -> Choice:
        """One of `allowed`; `default` where the key is absent."""
        value = self.get(key)
        if value is None and default is not None:
            return default
        for option in allowed:
            if option == value:
                return option
        raise refuse(self.field(key), value, ", ".join(allowed))

    def mapping(self, key: str) -> Mapping[str, Any]:
        """A JSON object."""
        return as_mapping(self.field(key), self.get(key))

    def sequence(self, key: str, default: tuple[Any, ...] | None = None) -> tuple[Any, ...]:
        """A list; `default` where the key is absent."""
        value = self.get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, list):
            raise refuse(self.field(key), value, "a list")
        return tuple(value)

    def number(
        self,
        key: str,
        check: Callable[[float], bool] = lambda _: True,
        allowed: str = "a finite number",
        default: float | None = None,
    ) -> float:
        """A finite number that passes `check`."""
        value = self._document.get(key, default)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or not check(float(value)):
            raise refuse(self.field(key), value, allowed)
        return float(value)

    def share(self, key: str) -> float:
        """A number from 0 to 1."""
        return self.number(key, lambda value: 0 <= value <= 1, "a number from 0 to 1")

    def integer(self, key: str, least: int) -> int:
        """An integer of at least `least`."""
        value = self.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise refuse(self.field(key), value, f"an integer of at least {least}")
        return value
