"""All or nothing: what is missing is named before anything starts, and what has started is ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from handlers.errors import InvalidConfig, LocalCloudError, PointerMissing
from scripts.local import preflight, state
from scripts.local.places import Places
from scripts.local.state import ProcessRecord, State
from scripts.local.supervisor import Options, Supervisor, status_of


def places(root: Path, **environ: str) -> Places:
    return Places.from_env(root, environ)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """What preflight looks for."""
    for name in ("cdk.json", "turnout.toml", "node_modules/.bin/cdk"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize("port", ["0", "65536", "http", "-1", ""])
def test_a_port_that_is_none_is_named(tmp_path: Path, port: str) -> None:
    with pytest.raises(InvalidConfig, match=r"TURNOUT_API_PORT.*between 1 and 65535"):
        places(tmp_path, TURNOUT_API_PORT=port)


def test_a_port_in_use_is_named_with_the_way_out(project: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = str(other.getsockname()[1])
        with pytest.raises(LocalCloudError, match=rf"port {taken} is in use.*TURNOUT_API_PORT"):
            preflight.check_ports(places(project, TURNOUT_API_PORT=taken))  # the first that is looked at


def test_two_equal_ports_are_refused(project: Path) -> None:
    with pytest.raises(LocalCloudError, match="the same"):
        preflight.check_ports(places(project, TURNOUT_AWS_PORT="8080"))


@pytest.mark.parametrize(
    ("missing", "told"),
    [("cdk.json", "no cdk.json"), ("turnout.toml", "no turnout.toml"), ("node_modules/.bin/cdk", "npm ci")],
)
def test_a_missing_part_of_the_project_is_named(project: Path, missing: str, told: str) -> None:
    (project / missing).unlink()
    with pytest.raises(LocalCloudError, match=told):
        preflight.check_project(places(project))


@pytest.mark.parametrize(
    ("answer", "told"), [("", "not on the PATH"), ("v18.20.0", "v18.20.0"), ("what", "what")]
)
def test_a_missing_or_old_node_is_named(tmp_path: Path, answer: str, told: str) -> None:
    # Given a PATH with that node, or none
    if answer:
        node = tmp_path / "node"
        node.write_text(f"#!/bin/sh\necho {answer}\n")
        node.chmod(0o755)
    code = "from scripts.local import preflight; preflight.check_node()"
    environ = {**os.environ, "PATH": str(tmp_path)}
    # When it is looked for
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False
    )
    # Then the message says what was found and what is needed
    assert told in done.stderr
    assert "20" in done.stderr


def test_up_without_a_release_says_how_to_build_one(project: Path) -> None:
    with pytest.raises(PointerMissing, match="turnout build digits"):
        Supervisor(places(project), print).up(["digits"], Options())
    assert state.load(places(project).home) is None


LEADER = """
import subprocess, sys, time
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)  # awslambdaric"]).pid, flush=True)
time.sleep(60)
"""


@dataclass(frozen=True)
class Group:
    """A process group of its own: a leader, and a child as a sandbox is one."""

    leader: subprocess.Popen[str]
    child: int


@pytest.fixture
def group() -> Iterator[Group]:
    with subprocess.Popen(
        [sys.executable, "-c", LEADER], start_new_session=True, stdout=subprocess.PIPE, text=True
    ) as leader:
        assert leader.stdout is not None
        made = Group(leader, int(leader.stdout.readline()))
        yield made
        for pid in (made.child, leader.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def record_of(group: Group, root: Path, command: str) -> ProcessRecord:
    record = ProcessRecord("cloud", group.leader.pid, command, "log")
    state.save(places(root).home, State("running", 8080, 5566, 5567, "us-east-1", (record,)))
    return record


def gone(pid: int) -> bool:
    limit = time.monotonic() + 5
    while state.command_line(pid) and time.monotonic() < limit:
        time.sleep(0.05)
    return not state.command_line(pid)


@pytest.mark.parametrize("leader_dies_first", [False, True])
def test_down_ends_the_recorded_group_and_forgets_it(
    project: Path, group: Group, leader_dies_first: bool
) -> None:
    # Given the record of a running cloud, whose process may have died and left a child
    record_of(group, project, "subprocess.Popen")
    if leader_dies_first:
        group.leader.kill()
        group.leader.wait()
    # When it goes down
    assert Supervisor(places(project), print).down() is True
    # Then the leader and its child are gone, and so is the record
    assert gone(group.leader.pid)
    assert gone(group.child)
    assert state.load(places(project).home) is None
    assert Supervisor(places(project), print).down() is False


def test_a_pid_that_is_now_somebody_elses_is_left_alone(project: Path) -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as other:
        record = ProcessRecord("aws", other.pid, "scripts.local.aws", "log")
        state.save(places(project).home, State("running", 8080, 5566, 5567, "us-east-1", (record,)))
        assert not record.alive
        Supervisor(places(project), print).down()
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(0.5)
        other.kill()


def test_a_dead_process_is_named_with_its_log(project: Path) -> None:
    record = ProcessRecord("cloud", 2**22 - 1, "scripts.local.cloud", "the/log")
    state.save(places(project).home, State("running", 8080, 5566, 5567, "us-east-1", (record,)))
    with pytest.raises(LocalCloudError, match=r"cloud \(log: the/log\).*turnout up"):
        status_of(places(project))


def test_status_of_nothing_says_so(project: Path) -> None:
    with pytest.raises(LocalCloudError, match="not running"):
        status_of(places(project))
