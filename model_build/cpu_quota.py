"""A share of a CPU, as a Lambda function of little memory has: by cgroup where this machine lets us."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from math import floor
from pathlib import Path

PERIOD_MS = 20.0
V1 = Path("/sys/fs/cgroup/cpu")
V2 = Path("/sys/fs/cgroup")


@contextmanager
def cpu_quota(vcpu: float) -> Iterator[Path | None]:
    """A new cgroup limited to `vcpu` CPUs (period 20 ms): yields its `cgroup.procs`, or None where not
    allowed.
    """
    made = _make(vcpu)
    try:
        yield None if made is None else made / "cgroup.procs"
    finally:
        if made is not None:
            made.rmdir()


def modelled_ms(cpu_ms: float, vcpu: float, throttled: bool) -> float:
    """Wall time of `cpu_ms` of work under a quota of `vcpu` < 1 CPU in periods of 20 ms (CFS bandwidth
    control).

    A fresh period grants vcpu·20 ms; when it is used up the process waits for the next period. `throttled`:
    it begins with the period's grant used up (a tail request) rather than whole (the median one).
    """
    if vcpu >= 1:
        return cpu_ms
    grant = vcpu * PERIOD_MS
    waits = floor(cpu_ms / grant) + (1 if throttled else 0)
    return cpu_ms + waits * (PERIOD_MS - grant)


def _make(vcpu: float) -> Path | None:
    quota_us, period_us = int(vcpu * PERIOD_MS * 1000), int(PERIOD_MS * 1000)
    name = f"turnout-{os.getpid()}-{quota_us}"
    try:
        if (V1 / "cpu.cfs_quota_us").exists() or (V1 / "cgroup.procs").exists():
            folder = V1 / name
            folder.mkdir()
            (folder / "cpu.cfs_period_us").write_text(str(period_us))
            (folder / "cpu.cfs_quota_us").write_text(str(quota_us))
            return folder
        if (V2 / "cgroup.controllers").exists():
            folder = V2 / name
            folder.mkdir()
            (folder / "cpu.max").write_text(f"{quota_us} {period_us}")
            return folder
    except OSError:  # not root, or a read-only hierarchy: the caller models instead, and says so
        return None
    return None
