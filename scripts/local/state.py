"""The record of a running laptop cloud: which processes belong to it; written before they can be lost."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

STOP_S = 12.0


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """A process of ours, leader of a group of its own; `command` guards against a reused pid."""

    name: str
    pid: int
    command: str
    log: str

    @property
    def alive(self) -> bool:
        return self.command in command_line(self.pid)


@dataclass(frozen=True, slots=True)
class State:
    """`phase` is `starting` until everything answers, then `running`."""

    phase: str
    api_port: int
    aws_port: int
    runtime_port: int
    region: str
    processes: Sequence[ProcessRecord] = ()

    def with_process(self, process: ProcessRecord) -> State:
        return replace(self, processes=(*self.processes, process))

    @property
    def alive(self) -> bool:
        return bool(self.processes) and all(process.alive for process in self.processes)


def load(home: Path) -> State | None:
    """The recorded state, or None."""
    path = home / "state.json"
    if not path.is_file():
        return None
    found: dict[str, Any] = json.loads(path.read_text())
    return State(**{**found, "processes": tuple(ProcessRecord(**process) for process in found["processes"])})


def save(home: Path, state: State) -> None:
    """Writes the record at once or not at all."""
    home.mkdir(parents=True, exist_ok=True)
    fresh = home / "state.json.new"
    fresh.write_text(json.dumps(asdict(state), indent=2))
    fresh.replace(home / "state.json")


def forget(home: Path) -> None:
    (home / "state.json").unlink(missing_ok=True)


def stop(processes: Sequence[ProcessRecord]) -> None:
    """Ends the processes and whatever is left of their groups."""
    groups = [process.pid for process in processes if process.alive]
    for group in groups:
        signal_group(group, signal.SIGTERM, leader_only=True)
    limit = time.monotonic() + STOP_S
    while time.monotonic() < limit and any(process.alive for process in processes):
        reap(groups)
        time.sleep(0.05)
    for group in [process.pid for process in processes]:
        signal_group(group, signal.SIGKILL)
    reap(groups)


def signal_group(group: int, number: signal.Signals, *, leader_only: bool = False) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if leader_only:
            os.kill(group, number)
        else:
            os.killpg(group, number)


def reap(pids: Sequence[int]) -> None:
    """Collects the exit status of those that are our own children."""
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def command_line(pid: int) -> str:
    """What the process runs; empty when there is none."""
    proc = Path("/proc") / str(pid) / "cmdline"
    if proc.parent.parent.joinpath("self").exists():
        try:
            return proc.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return ""
    listed = subprocess.run(
        ["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return listed.stdout.strip()
