"""Server processes of a bench: started, waited for, accounted, ended with all that they started."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from handlers.errors import TurnoutError


@dataclass(frozen=True, slots=True)
class Command:
    """How to start a server, and the paths that say it is ready and that it answers on."""

    name: str
    arguments: list[str]
    port: int
    ready: str
    path: str
    environ: dict[str, str]


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers."""

    name: str
    pid: int
    port: int
    path: str


@contextmanager
def running(command: Command) -> Iterator[Running]:
    """A server process that is ready; its whole process group is ended at the end."""
    with TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("w") as stream:
            process = subprocess.Popen(
                command.arguments,
                env={**os.environ, **command.environ},
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        try:
            end = time.monotonic() + 180
            while not _answers(f"http://127.0.0.1:{command.port}{command.ready}"):
                if process.poll() is not None or time.monotonic() > end:
                    raise TurnoutError(f"{command.name} did not start:\n{log.read_text()[-2000:]}")
                time.sleep(0.2)
            yield Running(command.name, process.pid, command.port, command.path)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # workers that outlive their parent


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310  # on this machine
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def place(root: int, before: Mapping[int, float]) -> set[int]:
    """Give the server's busiest process a core of its own, and its others the rest; returns the rest.

    `before`: `family` at the start of a load, which ends now. The same for every server: where they share a
    core with the load generator, their latency is the scheduler's slices of some milliseconds. Of one core
    nothing can be given.
    """
    first, *others = sorted(os.sched_getaffinity(0))
    if not others:
        return {first}
    now = family(root)
    busiest = max(now, key=lambda pid: now[pid] - before.get(pid, 0.0))
    for pid in now:
        for task in Path(f"/proc/{pid}/task").glob("*"):
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(int(task.name), {first} if pid == busiest else set(others))
    return set(others)


def own_mib(pid: int) -> float:
    """Memory of a process without what it shares, MiB (0 where /proc is missing).

    The places of the queue are shared memory: they grow to `MAX_QUEUE` at most, as they are touched.
    """
    status = Path(f"/proc/{pid}/status")
    text = status.read_text() if status.exists() else ""
    return next(
        (int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("RssAnon")), 0.0
    )


def cpu_seconds(root: int) -> float:
    """CPU time of a process and all its descendants so far, s (0 where /proc is missing)."""
    return sum(family(root).values())


def family(root: int) -> dict[int, float]:
    """A process and all its descendants, with the CPU time of each, s."""
    parents: dict[int, tuple[int, float]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rsplit(")", 1)[1].split()
            ticks = int(fields[11]) + int(fields[12])
            parents[int(path.parent.name)] = (int(fields[1]), ticks / os.sysconf("SC_CLK_TCK"))
    found, grown = {root}, True
    while grown:
        more = {pid for pid, (parent, _) in parents.items() if parent in found} - found
        found, grown = found | more, bool(more)
    return {pid: parents[pid][1] for pid in found if pid in parents}
