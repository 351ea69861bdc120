"""The end of the laptop cloud; the last file of this folder, since the others share one cloud."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import Project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_down_leaves_nothing_running(running: Project) -> None:
    found = running.json("status")
    pids = [process["pid"] for process in found["processes"]]
    pids += [pid for row in (*found["functions"], *found["endpoints"]) for pid in row["pids"]]
    assert running.run("down").returncode == 0
    running.wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 20)
    assert running.run("status").returncode == 2
