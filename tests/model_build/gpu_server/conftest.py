"""Small real releases, and the real server as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from scripts.bench.gpu_models import write_release

BINARY = "application/vnd.sagemaker-triton.binary+json"


class Scaled(nn.Module):
    """logits = factor × the first two of four inputs: the answer tells which row and which release
    it is from.
    """

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :2] * self.factor


class Moody(nn.Module):
    """Square roots of the first two of four inputs: NaN for a negative one, IndexError when the last is not
    in 0…9, and 256 TB wanted, so really out of memory on any machine, once a batch has eight items or more.
    """

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wanted = torch.empty(torch.div(x.shape[0], 8, rounding_mode="floor") * 2**46)[:0].sum()
        return torch.sqrt(x[:, :2]) + 0.0 * self.table(x[:, 3].long()) + wanted


class Slow(nn.Module):
    """Takes some tens of milliseconds a batch, whatever its size."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        square = torch.ones(900, 900)
        for _ in range(6):
            square = square @ square / 900.0
        return x[:, :2] + 0.0 * square.sum()


@dataclass
class Answer:
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


@dataclass
class Server:
    """A running server process."""

    process: subprocess.Popen[str]
    port: int
    folder: Path
    log: Path
    answers: list[Answer] = field(default_factory=list)

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """One request; header names with underscores for dashes."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            body,
            {name.replace("_", "-"): value for name, value in headers.items()},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return Answer(answer.status, dict(answer.headers), answer.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, dict(error.headers), error.read())

    def infer(self, rows: Any, attributes: str = "", datatype: str = "FP32") -> Answer:
        """JSON inference."""
        array = np.asarray(rows)
        tensor = {"name": "input", "datatype": datatype, "shape": array.shape, "data": array.ravel().tolist()}
        headers = {"Content_Type": "application/json"}
        if attributes:
            headers["X_Amzn_SageMaker_Custom_Attributes"] = attributes
        return self.request("POST", "/invocations", json.dumps({"inputs": [tensor]}).encode(), **headers)

    def ping(self) -> Answer:
        """GET /ping."""
        return self.request("GET", "/ping")

    def metric(self, name: str) -> float:
        """One value of /metrics."""
        lines = self.request("GET", "/metrics").body.decode().splitlines()
        return float(next(line for line in lines if line.startswith(f"turnout_gpu_{name} ")).split()[1])

    def wait(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        """Until `condition()`, or the test fails with the log."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end or self.process.poll() is not None:
                pytest.fail(f"exit {self.process.poll()}; log:\n{self.log.read_text()}")
            time.sleep(0.05)

    def wait_ready(self) -> None:
        """Until /ping is healthy."""
        self.wait(self.healthy)

    def healthy(self) -> bool:
        """Whether /ping says so; False too while nothing listens yet."""
        try:
            return self.ping().status == 200
        except urllib.error.URLError:
            return False

    def workers(self) -> list[int]:
        """Process ids of the workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [pid for pid in map(int, children) if b"gpu_server.worker" in _command(pid)]

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


def _command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


@pytest.fixture(scope="session")
def make_release(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A release folder around a small module."""

    def make(module: nn.Module) -> Path:
        folder = tmp_path_factory.mktemp("release") / "release"
        write_release(folder, module, torch.rand(2, 4), datatype="FP32", classes=2, model="tiny")
        return folder

    return make


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Start servers; all are stopped at the end of the module."""
    servers: list[Server] = []

    def launch(folder: Path, *, wait: bool = True, **settings: object) -> Server:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        log = tmp_path_factory.mktemp("log") / "server.log"
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "TURNOUT_GPU_HOST": "127.0.0.1",
            "TURNOUT_GPU_PORT": str(port),
            "TURNOUT_GPU_DEVICE": os.environ.get("TURNOUT_GPU_DEVICE", "cpu"),
            "TURNOUT_GPU_MODEL_DIR": str(folder),
            **{f"TURNOUT_GPU_{name.upper()}": str(value) for name, value in settings.items()},
        }
        with log.open("w") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "model_build.gpu_server"],
                env=environment,
                stdout=stream,
                stderr=subprocess.STDOUT,
                text=True,
            )
        server = Server(process, port, folder, log)
        servers.append(server)
        if wait:
            server.wait_ready()
        return server

    yield launch
    for server in servers:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()
