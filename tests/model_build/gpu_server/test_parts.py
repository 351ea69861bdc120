"""Settings, arena, metrics, the archive check."""

from __future__ import annotations

import asyncio
import json
import time
import zipfile
from pathlib import Path

import pytest

from handlers.errors import InvalidConfig, ReleaseError
from model_build.gpu_server.arena import Arena, open_shared
from model_build.gpu_server.metrics import Emf, Metrics
from model_build.gpu_server.pace import Pace
from model_build.gpu_server.program import refuse_pickles
from model_build.gpu_server.settings import Settings, from_environment


def test_the_environment_becomes_settings() -> None:
    assert from_environment({}) == Settings()
    read = from_environment(
        {"TURNOUT_GPU_PORT": "9", "TURNOUT_GPU_PINNED": "false", "TURNOUT_GPU_MAX_WAIT_MS": "0"}
    )
    assert (read.port, read.pinned, read.max_wait_ms) == (9, False, 0)
    assert from_environment({"TURNOUT_GPU_PORT": "9", "SAGEMAKER_BIND_TO_PORT": "7"}).port == 7


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "http"), ("PORT", "70000"), ("MAX_QUEUE", "0"), ("ENGINE", "tensorrt"), ("PINNED", "maybe")],
)
def test_a_wrong_setting_names_itself(name: str, value: str) -> None:
    with pytest.raises(InvalidConfig, match=f"TURNOUT_GPU_{name}.*{value}.*allowed"):
        from_environment({f"TURNOUT_GPU_{name}": value})


def test_slots_are_bounded_reused_hot_and_seen_by_another_mapping() -> None:
    arena = Arena(100, 2)
    first, second = arena.acquire(), arena.acquire()
    assert arena.acquire() is None
    assert first is not None
    assert second is not None
    arena.memory[second : second + 3] = b"abc"
    assert bytes(open_shared(arena.fd)[second : second + 3]) == b"abc"
    arena.release(first)
    assert arena.acquire() == first


def test_metrics_are_prometheus_text_and_emf_lines_of_what_changed() -> None:
    metrics, emf = Metrics(), Emf("digits")
    assert emf.line(metrics, 1) is None
    metrics.refused += 2
    metrics.queue_ms.observe(3.0)
    metrics.queue_ms.observe(5.0)
    text = metrics.prometheus({"healthy": 1})
    assert "turnout_gpu_refused_total 2" in text
    assert 'turnout_gpu_queue_milliseconds_bucket{le="+Inf"} 2' in text
    line = json.loads(emf.line(metrics, 7) or "")
    assert (line["refused"], line["queue_ms"], line["model"]) == (2, 4.0, "digits")
    names = {entry["Name"] for entry in line["_aws"]["CloudWatchMetrics"][0]["Metrics"]}
    assert names <= set(line)
    assert emf.line(metrics, 8) is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a/data/weights/model.pt", b"x"),
        ("a/data/constants/custom_obj_0", b"x"),
        ("a/data/weights/model_weights_config.json", b'{"config": {"w": {"use_pickle": true}}}'),
        ("a/data/sample_inputs/model.pt", b"cos\nsystem\n(S'true'\ntR."),
    ],
)
def test_an_archive_that_would_need_unpickling_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / "model.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, content)
    with pytest.raises(ReleaseError):
        refuse_pickles(path)


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.pt2").write_bytes(b"not a zip")
    with pytest.raises(ReleaseError, match=r"model\.pt2"):
        refuse_pickles(tmp_path / "model.pt2")


def test_a_request_read_in_a_round_that_follows_another_at_once_is_as_old_as_that_one() -> None:
    async def scenario() -> tuple[float, float, float, float]:
        loop = asyncio.get_running_loop()
        pace, seen = Pace(loop), [0.0] * 4
        await asyncio.sleep(0.01)
        seen[0] = time.monotonic() - pace.arrival()  # after a pause: it has just come
        time.sleep(0.02)
        seen[1] = time.monotonic() - pace.arrival()  # read late in the same round
        await asyncio.sleep(0)
        seen[2] = time.monotonic() - pace.arrival()  # the next round follows at once
        await asyncio.sleep(0.01)
        seen[3] = time.monotonic() - pace.arrival()
        return seen[0], seen[1], seen[2], seen[3]

    fresh, late, following, again = asyncio.run(scenario())
    assert fresh < 0.01
    assert late >= 0.02
    assert following >= 0.02
    assert again < 0.01
