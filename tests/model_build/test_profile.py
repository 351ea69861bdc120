"""Profile: fresh processes, quotas that bite, the price of a size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from handlers.errors import BuildError
from model_build.cpu_quota import PERIOD_MS, cpu_quota, modelled_ms
from model_build.lambda_price import ARM64, threads, usd_per_million, vcpu
from model_build.latency import save_inputs, time_graph


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """A few ms of matrix products."""
    size = 384
    weight = helper.make_tensor("w", TensorProto.FLOAT, [size, size], np.eye(size, dtype=np.float32).ravel())
    nodes = [helper.make_node("MatMul", [f"x{i}", "w"], [f"x{i + 1}"]) for i in range(12)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size]) for name in ("x0", "x12")]
    model = helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight]),
        opset_imports=[helper.make_opsetid("", 20)],
    )
    model.ir_version = 10
    onnx.save(model, str(tmp_path / "g.onnx"))
    return tmp_path / "g.onnx"


def test_times_a_graph_in_a_fresh_process(graph: Path, tmp_path: Path) -> None:
    inputs = save_inputs([np.zeros((4, 384), np.float32)], tmp_path / "i.npz")
    found = time_graph(graph, inputs, (1, 64), seconds=0.05)
    assert found.batch_ms[1].p50 <= found.batch_ms[1].p95 <= found.batch_ms[1].p99
    assert found.batch_ms[64].p50 > found.batch_ms[1].p50
    assert found.init_ms > found.session_ms > 0
    assert found.resident_mb > 10


def test_names_the_graph_that_cannot_be_timed(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"not a graph")
    inputs = save_inputs([np.zeros((1, 1), np.float32)], tmp_path / "i.npz")
    with pytest.raises(BuildError, match=r"bad\.onnx could not be timed"):
        time_graph(tmp_path / "bad.onnx", inputs)


@pytest.mark.slow
def test_a_quota_of_a_tenth_slows_the_process_down(graph: Path, tmp_path: Path) -> None:
    inputs = save_inputs([np.zeros((64, 384), np.float32)], tmp_path / "i.npz")
    with cpu_quota(0.1) as group:
        if group is None:
            pytest.skip("this machine lets us make no CPU cgroup")
        held = time_graph(graph, inputs, (64,), seconds=0.3, cgroup=group)
    free = time_graph(graph, inputs, (64,), seconds=0.3)
    assert held.batch_ms[64].mean > 1.5 * free.batch_ms[64].mean


@given(st.floats(0.01, 500), st.floats(0.1, 0.99))
def test_the_model_of_a_quota_never_beats_a_whole_cpu_and_tends_to_its_share(
    cpu_ms: float, share: float
) -> None:
    fresh, spent = modelled_ms(cpu_ms, share, False), modelled_ms(cpu_ms, share, True)
    assert cpu_ms <= fresh <= spent
    assert abs(fresh - cpu_ms / share) <= PERIOD_MS


def test_a_whole_cpu_is_not_slowed() -> None:
    assert modelled_ms(7.0, 1.0, True) == 7.0


def test_cost_is_request_duration_and_init() -> None:
    # 1,769 MB, 3.2 ms billed as 4, one cold start of 250 ms in 100
    gb = 1769 / 1024
    by_hand = 1e6 * (0.0000002 + 0.004 * gb * 0.0000133334 + 0.01 * 0.25 * gb * 0.0000133334)
    assert usd_per_million(ARM64, 1769, 3.2, 250, 0.01) == pytest.approx(by_hand)


def test_threads_follow_memory() -> None:
    assert [threads(mb) for mb in (256, 1769, 3537, 3538, 10240)] == [1, 1, 1, 2, 5]
    assert vcpu(1769) == 1.0
