"""The server as a process: SageMaker's contract, bodies, batches, faults."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.model_build.gpu_server.conftest import BINARY, Moody, Scaled, Server, Slow

pytestmark = pytest.mark.slow  # each starts a server, which loads PyTorch
Start = Callable[..., Server]
Make = Callable[..., Path]


@pytest.fixture(scope="module")
def server(start: Start, make_release: Make) -> Server:
    limits = {"max_batch": 8, "max_wait_ms": 5, "max_body_bytes": 400_000, "body_timeout_s": 2}
    return start(make_release(Scaled(3.0)), **limits)


@pytest.fixture(scope="module")
def moody(start: Start, make_release: Make) -> Server:
    return start(make_release(Moody()), max_batch=16, max_wait_ms=200)


@pytest.fixture(scope="module")
def plain(start: Start, make_release: Make) -> Server:
    return start(make_release(Scaled(1.0)))


@pytest.fixture(scope="module")
def slow(start: Start, make_release: Make) -> Server:
    return start(make_release(Slow()), max_batch=1)


def binary_body(rows: np.ndarray[Any, Any]) -> tuple[bytes, str]:
    tensor = {
        "name": "input",
        "datatype": "FP32",
        "shape": rows.shape,
        "parameters": {"binary_data_size": rows.nbytes},
    }
    header = json.dumps({"id": "7", "inputs": [tensor]}).encode()
    return header + rows.tobytes(), f"{BINARY};json-header-size={len(header)}"


def test_json_in_json_out(server: Server) -> None:
    answer = server.infer([[1, 2, 3, 4], [5, 6, 7, 8]])
    assert answer.status == 200
    (output,) = answer.json["outputs"]
    assert output["shape"] == [2, 2]
    assert output["data"] == [3, 6, 15, 18]


def test_binary_in_binary_out(server: Server) -> None:
    rows = np.arange(12, dtype=np.float32).reshape(3, 4)
    body, content_type = binary_body(rows)
    answer = server.request("POST", "/invocations", body, Content_Type=content_type)
    assert answer.status == 200
    size = int(answer.headers["Content-Type"].removeprefix(f"{BINARY};json-header-size="))
    header = json.loads(answer.body[:size])
    assert header["id"] == "7"
    assert header["outputs"][0]["parameters"]["binary_data_size"] == 24
    got = np.frombuffer(answer.body[size:], np.float32).reshape(3, 2)
    np.testing.assert_array_equal(got, rows[:, :2] * 3)


def test_a_request_larger_than_the_largest_batch_is_split(server: Server) -> None:
    rows = np.random.default_rng(0).random((37, 4)).astype(np.float32)
    answer = server.infer(rows)
    got = np.array(answer.json["outputs"][0]["data"], np.float32).reshape(37, 2)
    np.testing.assert_allclose(got, rows[:, :2] * 3, rtol=1e-6)


def test_a_json_body_that_is_decoded_in_a_process_of_its_own_is_answered_like_any_other(
    server: Server,
) -> None:
    rows = np.random.default_rng(0).random((4000, 4))
    got = np.array(server.infer(rows).json["outputs"][0]["data"]).reshape(4000, 2)
    np.testing.assert_allclose(got, rows[:, :2] * 3, rtol=1e-5)
    bad = server.infer([["word"] * 4] * 4000)
    assert bad.status == 400
    assert "inputs[input].data" in bad.json["error"]


def test_concurrent_requests_share_batches_and_get_their_own_rows(server: Server) -> None:
    before = server.metric("model_milliseconds_count")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: server.infer([[n, -n, 0, 0]] * (1 + n % 3)), range(64)))
    for n, answer in enumerate(answers):
        assert answer.json["outputs"][0]["data"] == [3.0 * n, -3.0 * n] * (1 + n % 3)
    assert server.metric("model_milliseconds_count") - before < 64


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (b"not json", "body"),
        ({"inputs": []}, "inputs"),
        ({"inputs": [{"name": "other"}]}, "inputs"),
        ({"datatype": "FP64"}, "datatype"),
        ({"shape": [1, 5]}, "shape"),
        ({"shape": [0, 4], "data": []}, "shape"),
        ({"data": [1, 2, 3]}, "data"),
        ({"data": [1, 2, 3, "x"]}, "data"),
        ({"data": [1, 2, 3, None]}, "data"),
        ({"data": [True, True, True, True]}, "data"),
        ({"data": [1, 2, 3, 1e300]}, "data"),
        ({"data": [[1], [2, 3], [4]]}, "data"),
    ],
)
def test_a_malformed_json_body_is_a_400_that_names_the_field(server: Server, change: Any, named: str) -> None:
    tensor = {"name": "input", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}
    if isinstance(change, bytes):
        body = change
    else:
        body = json.dumps(change if "inputs" in change else {"inputs": [tensor | change]}).encode()
    answer = server.request("POST", "/invocations", body, Content_Type="application/json")
    assert answer.status == 400
    assert named in answer.json["error"]
    assert "allowed" in answer.json["error"]


@pytest.mark.parametrize("cut", [1, 4, 40])
def test_a_truncated_binary_tensor_is_a_400(server: Server, cut: int) -> None:
    body, content_type = binary_body(np.zeros((3, 4), np.float32))
    assert server.request("POST", "/invocations", body[:-cut], Content_Type=content_type).status == 400


def test_other_bad_requests(server: Server) -> None:
    kind = "application/json"
    assert server.request("POST", "/invocations", b"{}", Content_Type="text/csv").status == 400
    assert server.request("POST", "/invocations", b" " * 400_001, Content_Type=kind).status == 413
    assert server.request("GET", "/invocations").status == 405
    assert server.request("GET", "/nowhere").status == 404
    assert (
        server.request("POST", "/invocations", b"{}", Content_Type=f"{BINARY};json-header-size=99").status
        == 400
    )
    assert server.infer([[1, 2, 3, 4]], "deadline_ms=soon").status == 400
    assert server.infer([[1, 2, 3, 4]], "priority=vip").status == 400
    assert server.infer([[1, 2, 3, 4]], "deadline_ms=500,priority=shadow,tenant=x").status == 200


def test_broken_http_gets_an_answer_and_a_closed_connection(server: Server) -> None:
    for raw, status in (
        (b"HELLO\r\n\r\n", b"400"),
        (b"POST /invocations HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"411"),
        (b"GET /ping HTTP/1.1\r\nX: " + b"a" * 20000, b"431"),
    ):
        with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
            connection.sendall(raw)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 " + status)


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    one = b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"
    bad = b"GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
        connection.sendall(one + one + bad)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"200", b"200", b"404"]


def test_an_impossible_deadline_is_refused_with_retry_after_and_the_predicted_wait(server: Server) -> None:
    before = server.metric("refused_total")
    answer = server.infer([[1, 2, 3, 4]], "deadline_ms=0.01")
    assert answer.status == 429
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.json["predicted_wait_ms"] > 0
    assert server.metric("refused_total") == before + 1


def test_a_client_that_disconnects_frees_its_place(server: Server) -> None:
    free = server.metric("slots_free")
    for cut in (10, 150, 10_000):
        body, content_type = binary_body(np.zeros((3, 4), np.float32))
        head = f"POST /invocations HTTP/1.1\r\nContent-Type: {content_type}\r\n"
        head += f"Content-Length: {len(body)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall((head.encode() + body)[:cut])
    server.wait(lambda: server.metric("slots_free") == free)
    assert server.infer([[1, 2, 3, 4]]).status == 200


def test_a_slow_client_does_not_hold_a_batch(server: Server) -> None:
    body, content_type = binary_body(np.zeros((1, 4), np.float32))
    head = (
        f"POST /invocations HTTP/1.1\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), 10) as slow:
        slow.sendall(head.encode() + body[:-3])
        assert server.infer([[1, 2, 3, 4]]).status == 200
        slow.sendall(body[-3:])
        assert slow.recv(65536).startswith(b"HTTP/1.1 200")


def test_a_client_that_stops_sending_is_told_and_closed(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 10) as slow:
        slow.sendall(
            b"POST /invocations HTTP/1.1\r\nContent-Length: 100\r\nContent-Type: application/json\r\n\r\n{"
        )
        answer = b"".join(iter(lambda: slow.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 408")


def test_only_the_item_that_makes_the_model_raise_fails(moody: Server) -> None:
    rows = [[[n * n, 1, 0, n]] for n in range(7)] + [[[4, 4, 0, 999]]]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(moody.infer, rows))
    assert [answer.status for answer in answers] == [200] * 7 + [400]
    assert [answer.json["outputs"][0]["data"] for answer in answers[:7]] == [[n, 1] for n in range(7)]
    assert "item 0" in answers[-1].json["error"]
    alone = moody.infer(rows[-1])
    assert alone.status == 400
    assert moody.healthy()


def test_nan_outputs_are_flagged(moody: Server) -> None:
    answer = moody.infer([[4, 4, 0, 0], [-1, 4, 0, 0]])
    assert answer.status == 200
    assert answer.json["parameters"] == {"nonfinite_items": [1]}
    assert answer.json["outputs"][0]["data"] == [2, 2, None, 2]
    assert moody.metric("nonfinite_total") == 1


def test_a_size_that_does_not_fit_in_memory_is_not_served(moody: Server) -> None:
    assert moody.ping().json["max_batch"] == 4
    answer = moody.infer(np.ones((16, 4)))
    assert answer.json["outputs"][0]["data"] == [1.0] * 32


def test_a_worker_that_dies_is_restarted_and_ping_tells_the_truth(plain: Server) -> None:
    server = plain
    (worker,) = server.workers()
    os.kill(worker, signal.SIGKILL)
    server.wait(lambda: not server.healthy())
    assert "restarted" in server.ping().json["reason"]
    assert server.infer([[1, 2, 3, 4]]).status == 503
    server.wait_ready()
    assert server.infer([[1, 2, 3, 4]]).json["outputs"][0]["data"] == [1, 2]
    assert server.metric("restarts_total") == 1


def test_what_a_dead_worker_held_fails_at_once(slow: Server) -> None:
    server = slow
    (worker,) = server.workers()
    os.kill(worker, signal.SIGSTOP)
    with ThreadPoolExecutor(4) as pool:
        pending = [pool.submit(server.infer, [[1, 2, 3, 4]]) for _ in range(4)]
        server.wait(lambda: server.metric("waiting_requests") == 2)
        os.kill(worker, signal.SIGKILL)
        assert {answer.result().status for answer in pending} == {503}


def test_sigterm_finishes_what_is_in_flight_refuses_the_new_and_exits_0(slow: Server) -> None:
    slow.wait_ready()
    places = slow.metric("slots_free")
    with ThreadPoolExecutor(12) as pool:
        pending = [pool.submit(slow.infer, [[1, 2, 3, 4]]) for _ in range(12)]
        slow.wait(lambda: slow.metric("requests_total") + places - slow.metric("slots_free") >= 12)
        slow.process.send_signal(signal.SIGTERM)
        slow.wait(lambda: slow.ping().status == 503)
        new = slow.infer([[1, 2, 3, 4]])
        assert (new.status, "shutting down" in new.json["error"]) == (503, True)
        assert [answer.result().status for answer in pending] == [200] * 12
    assert slow.process.wait(20) == 0


def test_a_swap_drops_no_request(start: Start, make_release: Make, tmp_path: Path) -> None:
    old, new = make_release(Scaled(1.0)), make_release(Scaled(2.0))
    (tmp_path / "old").symlink_to(old)
    (tmp_path / "new").symlink_to(new)
    (tmp_path / "current").write_text("old")
    server = start(tmp_path)
    before = server.ping().json["release"]
    seen: list[tuple[int, float]] = []
    stop = threading.Event()

    def client() -> None:
        while not stop.is_set():
            answer = server.infer([[1, 1, 0, 0]])
            seen.append((answer.status, answer.json["outputs"][0]["data"][0] if answer.status == 200 else 0))

    threads = [threading.Thread(target=client) for _ in range(3)]
    for thread in threads:
        thread.start()
    (tmp_path / "current").write_text("new")
    server.process.send_signal(signal.SIGHUP)
    server.wait(lambda: server.ping().json["release"] != before)
    time.sleep(0.2)
    stop.set()
    for thread in threads:
        thread.join()
    assert {status for status, _ in seen} == {200}
    assert {value for _, value in seen} == {1.0, 2.0}
    assert seen[-1][1] == 2.0


def test_a_release_that_cannot_be_used_leaves_the_old_one_serving(plain: Server) -> None:
    server, folder = plain, plain.folder
    server.wait_ready()
    program = folder / "gpu/model.pt2"
    content = program.read_bytes()
    program.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    server.process.send_signal(signal.SIGHUP)
    server.wait(lambda: "loading failed" in str(server.ping().json.get("reason")))
    assert server.ping().status == 200
    assert server.infer([[1, 2, 3, 4]]).status == 200


class _Broken(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch._check(x.sum().item() > 0.0)
        return x[:, :2]


def test_a_model_that_fails_its_warm_up_never_turns_healthy_and_says_why(
    start: Start, make_release: Make
) -> None:
    server = start(make_release(_Broken()), wait=False)
    server.wait(lambda: "loading failed" in server.log.read_text())
    ping = server.ping()
    assert ping.status == 503
    assert "loading failed" in ping.json["reason"]
    assert server.infer([[1, 2, 3, 4]]).status == 503
    assert server.stop() == 0


def test_a_tampered_or_missing_release_is_refused_before_loading(start: Start, make_release: Make) -> None:
    folder = make_release(Scaled(5.0))
    (folder / "gpu/model.pt2").write_bytes(b"x" * (folder / "gpu/model.pt2").stat().st_size)
    server = start(folder, wait=False)
    server.wait(lambda: "loading failed" in server.log.read_text())
    assert "sha256" in server.ping().json["reason"]
    empty = start(folder / "nowhere", wait=False)
    empty.wait(lambda: "loading failed" in empty.log.read_text())
    assert "manifest.json" in empty.ping().json["reason"]


def test_a_wrong_setting_ends_the_process_with_code_2(start: Start, make_release: Make) -> None:
    server = start(make_release(Scaled(5.0)), wait=False, max_batch="many")
    assert server.process.wait(30) == 2
    assert "TURNOUT_GPU_MAX_BATCH" in server.log.read_text()
    assert "Traceback" not in server.log.read_text()
