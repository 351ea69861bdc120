"""EventBridge on the laptop: calls scheduled functions at their rate, or faster when asked."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from scripts.local.deployed import Schedule
from scripts.local.function_host import FunctionHost, Throttled, UnknownFunction

log = logging.getLogger(__name__)


class Scheduler:
    """One task a schedule; the tasks follow what is deployed."""

    def __init__(self, functions: FunctionHost, every_s: float | None) -> None:
        self._functions, self._every_s = functions, every_s
        self._tasks: dict[Schedule, asyncio.Task[None]] = {}
        self.runs = 0

    def follow(self, schedules: Iterable[Schedule]) -> None:
        """Starts tasks for new schedules, cancels those of removed ones."""
        wanted = set(schedules)
        for gone in set(self._tasks) - wanted:
            self._tasks.pop(gone).cancel()
        for new in wanted - set(self._tasks):
            self._tasks[new] = asyncio.create_task(self._keep_calling(new))

    def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()

    async def _keep_calling(self, schedule: Schedule) -> None:
        clock, every_s = asyncio.get_running_loop().time, self._every_s or schedule.every_s
        due = clock()
        while True:
            due = max(due + every_s, clock())  # a run takes part of its interval, as in EventBridge
            await asyncio.sleep(due - clock())
            try:
                _, outcome = await self._functions.invoke(
                    schedule.function, schedule.qualifier, schedule.payload.encode()
                )
            except UnknownFunction:
                log.warning("%s calls %s, which is not there", schedule.name, schedule.function)
                continue
            except Throttled:
                log.warning("%s: %s is still busy", schedule.name, schedule.function)
                continue
            self.runs += 1
            if outcome.error:
                log.warning("%s failed: %s", schedule.name, outcome.payload.decode(errors="replace")[:1000])
