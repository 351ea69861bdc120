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
CHILDREN = ("awslambdaric", "model_build.gpu_server")
"""What the cloud's process starts in its own group."""


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
    """Ends the processes and whatever they started; another program under a reused pid is left alone."""
    leaders = [process.pid for process in processes if process.alive]
    for leader in leaders:
        with contextlib.suppress(ProcessLookupError):
            os.kill(leader, signal.SIGTERM)
    limit = time.monotonic() + STOP_S
    while time.monotonic() < limit and any(process.alive for process in processes):
        reap(leaders)
        time.sleep(0.05)
    for process in processes:
        for pid in members(process.pid, (process.command, *CHILDREN)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    reap(leaders)


def members(group: int, commands: Sequence[str]) -> list[int]:
    """The processes of a group that run one of `commands`, also when its leader is gone."""
    found = [int(entry.name) for entry in Path("/proc").glob("[0-9]*")] or listed_pids()
    return [pid for pid in found if group_of(pid) == group and any(c in command_line(pid) for c in commands)]


def listed_pids() -> list[int]:
    """Where there is no /proc."""
    told = subprocess.run(["ps", "-axo", "pid="], capture_output=True, text=True, check=False).stdout
    return [int(pid) for pid in told.split()]


def group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except (ProcessLookupError, PermissionError):
        return -1


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
