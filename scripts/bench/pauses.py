"""How long this machine itself keeps a ready process from running: the floor under every latency on it.

Processes that only read the clock run on all cores at once. Where two readings lie apart, the core was with
someone else: another process, the host, an interrupt. A request that comes at a random moment then waits for
what is left of that pause, whatever the server does.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence

SHORTEST_S = 0.0001


def wait_of_share(pauses: Sequence[float], seconds: float, share: float) -> float:
    """The wait (s) that only `share` of the moments in `seconds` exceed, from the pauses (s) in them.

    A moment within a pause waits for its rest, so a pause p makes p - w seconds of moments that wait longer
    than w.
    """
    budget, longer = share * seconds, 0.0
    ordered = sorted(pauses, reverse=True)
    for count, (pause, following) in enumerate(zip(ordered, [*ordered[1:], 0.0], strict=False), 1):
        longer += pause
        if longer - count * following >= budget:
            return (longer - budget) / count
    return 0.0


def spin(seconds: float) -> list[float]:
    """Pauses of more than 0.1 ms while reading the clock, s."""
    pauses: list[float] = []
    last = time.perf_counter()
    end = last + seconds
    while last < end:
        now = time.perf_counter()
        if now - last > SHORTEST_S:
            pauses.append(now - last)
        last = now
    return pauses


def machine_wait_ms(seconds: float = 2.0) -> float:
    """The p99 of the wait for a core that is meant to be free, ms: all cores together."""
    command = [sys.executable, "-m", "scripts.bench.pauses", str(seconds)]
    cores = os.cpu_count() or 1
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(cores)]
    pauses = [float(word) for run in runs for word in run.communicate()[0].split()]
    return wait_of_share(pauses, cores * seconds, 0.01) * 1000


if __name__ == "__main__":
    print(*spin(float(sys.argv[1])))
