"""What is common to all readers of traces: their options, and what becomes of a row that makes no sense."""

from __future__ import annotations

from dataclasses import dataclass, field

from handlers.errors import InvalidInput

from . import timestamps


class InvalidTrace(InvalidInput):
    """Raised when a trace's file cannot be read; names the line and the column."""


@dataclass(slots=True)
class Rows:
    """What is done with bad rows: refuse the first, or count them."""

    name: str
    skip: bool
    skipped: int = 0
    first_skipped: str = ""
    notes: list[str] = field(default_factory=list)

    def bad(self, line: int, column: str, value: object, allowed: str) -> None:
        """Refuse the file because of this row, or count the row."""
        where = f"{self.name}, line {line}, column {column}"
        if not self.skip:
            raise InvalidTrace(where, value, f"{allowed} (--skip-malformed leaves such rows out)")
        self.skipped += 1
        self.first_skipped = self.first_skipped or f"the first is line {line}, column {column}"

    def summary(self) -> tuple[str, ...]:
        """What there is to say about the reading."""
        if not self.skipped:
            return tuple(self.notes)
        what = "1 malformed row" if self.skipped == 1 else f"{self.skipped} malformed rows"
        return (*self.notes, f"{what} skipped; {self.first_skipped}")


@dataclass(frozen=True, slots=True)
class Options:
    """How to read: the time column and unit where they are not to be found, what to do with bad rows."""

    time_column: str | None = None
    time_unit: str | None = None
    function: str | None = None
    skip_malformed: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.time_unit is not None and self.time_unit not in timestamps.UNITS:
            raise InvalidInput("--time-unit", self.time_unit, ", ".join(timestamps.UNITS))
