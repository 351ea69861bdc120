"""Progress of a build on stderr: a bar a step on a terminal, a line a step elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class Bars:
    """A `model_build.pipeline.Watch` over the named steps."""

    def __init__(self, console: Console, names: Sequence[str]) -> None:
        self._console = console
        self._names = list(names)
        self._bars = Progress(
            TextColumn("{task.description:<12}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TextColumn("{task.fields[text]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        for name in self._names:
            self._tasks[name] = self._bars.add_task(name, total=1.0, start=False, text="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def started(self, step: str) -> None:
        """A step begins to run."""
        self._bars.start_task(self._tasks[step])

    def progressed(self, step: str, share: float, text: str) -> None:
        """A share (0 to 1) of a step is done."""
        self._bars.update(self._tasks[step], completed=share, text=text)

    def finished(self, step: str, seconds: float, cached: bool) -> None:
        """A step has its result, from the cache or by running."""
        text = "from the cache" if cached else f"{seconds:.1f} s"
        self._bars.start_task(self._tasks[step])
        self._bars.update(self._tasks[step], completed=1.0, text=text)
        self._bars.stop_task(self._tasks[step])
        if self._bars.disable:
            place = self._names.index(step) + 1
            self._console.print(f"[{place}/{len(self._names)}] {step}: {text}", markup=False, highlight=False)
