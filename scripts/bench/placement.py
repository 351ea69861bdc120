"""Where the caller and the functions run while they are timed; the scheduler alone moves a ratio by 0.2.

    one core    they take turns: under SCHED_BATCH neither is interrupted for what was sent to the other
    two cores   one each: what the caller does while the function works is hidden, waking it takes longer
    free        wherever the scheduler puts them, which differs from run to run; on one core it interrupts
                whoever ran for longer: a function that works more often than the floor that only echoes

`turnout bench` gives the ratio of each, and the times of the first.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple


class Placement(NamedTuple):
    """Cores for the caller and for the functions, none for all; `turns`: nobody is interrupted."""

    name: str
    caller: frozenset[int] = frozenset()
    functions: frozenset[int] = frozenset()
    turns: bool = False


def placements() -> tuple[Placement, ...]:
    """Those that there are cores for; the first is the one to compare with another day's."""
    free = Placement("free")
    if not hasattr(os, "sched_setaffinity"):  # only Linux lets us choose
        return (free,)
    cores = sorted(os.sched_getaffinity(0))
    one, two = frozenset(cores[:1]), frozenset(cores[1:2])
    turns = Placement("one core", one, one, turns=True)
    return (turns, Placement("two cores", one, two), free) if two else (turns, free)


@contextmanager
def placed(cores: frozenset[int], *, turns: bool) -> Iterator[None]:
    """This thread, and whatever it starts, on these cores until the end."""
    if not cores:
        yield
        return
    before, policy = os.sched_getaffinity(0), os.sched_getscheduler(0)
    os.sched_setaffinity(0, cores)
    if turns:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, os.sched_param(0))
        os.sched_setaffinity(0, before)
