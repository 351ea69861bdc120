"""A small real release in a real (moto) S3 and SSM, and the function started on it in this process."""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import onnx
import pytest
from moto.server import ThreadedMotoServer
from onnx import TensorProto, helper

from handlers.adapters.bootstrap import start
from handlers.adapters.wiring import Running
from handlers.serving import manifest as manifests

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_REGION": "us-east-1"}
COUNTER = itertools.count()
ECONOMICS = {
    "lambda_gb_s": 0.0000133334,
    "lambda_request": 2e-7,
    "front_door_request": 1e-6,
    "gpu_hour": 0.7364,
    "model_memory_mb": 1769,
}


def graph(scale: float = 1.0) -> bytes:
    """logits = flatten(image [-1, 1, 2, 2]) @ (scale × [4, 3]): the class is the largest of three pixels."""
    weights = np.vstack([np.eye(3), np.zeros((1, 3))]).astype(np.float32) * scale
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("Flatten", ["image"], ["flat"]),
                helper.make_node("MatMul", ["flat", "w"], ["logits"]),
            ],
            "tiny",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, 2, 2])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3])],
            [helper.make_tensor("w", TensorProto.FLOAT, [4, 3], weights.ravel().tolist())],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def document(model_bytes: bytes, **changes: Any) -> dict[str, Any]:
    image = {"name": "image", "dtype": "FP32", "shape": [-1, 1, 2, 2]}
    made: dict[str, Any] = {
        "schema_version": 1,
        "model": "tiny",
        "task": "classification",
        "metric": "accuracy",
        "labels": ["red", "green", "blue"],
        "toolchain": {"onnxruntime": "1.32.0"},
        "inputs": [image],
        "preprocess": {"kind": "none"},
        "tensors": [image],
        "outputs": [
            {"name": "probabilities", "dtype": "FP32", "shape": [-1, 3]},
            {"name": "label", "dtype": "BYTES", "shape": [-1]},
            {"name": "confidence", "dtype": "FP32", "shape": [-1]},
        ],
        "graph_output": {"name": "logits", "dtype": "FP32", "shape": [-1, 3]},
        "variants": {
            "cpu": {
                "file": "cpu/model.onnx",
                "precision": "fp32",
                "opset": 20,
                "ort_min": "1.20.0",
                "accuracy": 0.9,
                "size_bytes": len(model_bytes),
                "temperature": 1.0,
            },
            "gpu": {
                "file": "gpu/model.pt2",
                "precision": "fp32",
                "accuracy": 0.99,
                "size_bytes": 1,
                "temperature": 1.0,
            },
        },
        "cascade": {
            "threshold": 0.6,
            "escalation_share": 0.1,
            "accuracy": 0.98,
            "epsilon": 0.02,
            "delta": 0.05,
            "agreement": 0.99,
        },
        "profile": {
            "name": "tiny",
            "cpu": {
                "memory_mb": 1769,
                "service_ms": {"p50": 0.2, "p95": 0.4, "p99": 0.8},
                "batch_ms": {"1": 0.2, "8": 0.4},
                "init_ms": 200,
                "accuracy": 0.9,
            },
            "gpu": {
                "batch_ms": {"1": 2.0, "8": 3.0},
                "max_batch": 8,
                "max_wait_ms": 1,
                "startup_s": 100,
                "accuracy": 0.99,
            },
            "network_ms": {"p50": 1, "p99": 5},
            "escalation_share": 0.1,
        },
        "files": {
            "cpu/model.onnx": {"sha256": hashlib.sha256(model_bytes).hexdigest(), "bytes": len(model_bytes)},
            "gpu/model.pt2": {"sha256": hashlib.sha256(b"g").hexdigest(), "bytes": 1},
        },
    }
    return made | changes


@dataclass(frozen=True)
class Cloud:
    """moto's URL, a bucket and a pointer of its own in it, and how to publish there."""

    url: str
    name: str

    @property
    def bucket(self) -> str:
        return f"turnout-{self.name}-releases"

    @property
    def pointer(self) -> str:
        return f"/turnout/{self.name}/tiny/release"

    @property
    def environ(self) -> dict[str, str]:
        return CREDENTIALS | {"AWS_ENDPOINT_URL": self.url}

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )

    def publish(self, model_bytes: bytes, stored: bytes | None = None, **changes: Any) -> str:
        """Upload a release (its graph as `stored`, if given) and point to it; returns its id."""
        raw = manifests.canonical(document(model_bytes, **changes))
        release = manifests.release_id(raw)
        files = {"manifest.json": raw, "cpu/model.onnx": model_bytes if stored is None else stored}
        for name, content in files.items():
            self.client("s3").put_object(
                Bucket=self.bucket, Key=f"releases/tiny/{release}/{name}", Body=content
            )
        self.point(json.dumps({"release": release, "manifest_sha256": hashlib.sha256(raw).hexdigest()}))
        return release

    def point(self, text: str) -> None:
        self.client("ssm").put_parameter(Name=self.pointer, Value=text, Type="String", Overwrite=True)


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://localhost:{port}" if host == "0.0.0.0" else f"http://{host}:{port}"
    server.stop()


def made_cloud(url: str, name: str) -> Cloud:
    cloud = Cloud(url, name)
    cloud.client("s3").create_bucket(Bucket=cloud.bucket)
    cloud.point("none")
    return cloud


def environ_of(cloud: Cloud, folder: Path) -> dict[str, str]:
    return cloud.environ | {
        "TURNOUT_STAGE": "test",
        "TURNOUT_MODEL": "tiny",
        "TURNOUT_BUCKET": cloud.bucket,
        "TURNOUT_POINTER": cloud.pointer,
        "TURNOUT_LATENCY_SLO_MS": "200",
        "TURNOUT_ECONOMICS": json.dumps(ECONOMICS),
        "AWS_LAMBDA_FUNCTION_NAME": "turnout-test-tiny",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
        "TMPDIR": str(folder),
    }


@pytest.fixture
def cloud(moto_url: str) -> Cloud:
    return made_cloud(moto_url, f"t{next(COUNTER)}")


@pytest.fixture
def tiny_graph() -> Callable[[float], bytes]:
    return graph


@pytest.fixture
def environ(cloud: Cloud, tmp_path: Path) -> dict[str, str]:
    """The function's environment; no GPU path."""
    return environ_of(cloud, tmp_path)


@pytest.fixture(scope="session")
def shared(moto_url: str, tmp_path_factory: pytest.TempPathFactory) -> Running:
    """A started function for tests that change nothing in it."""
    cloud = made_cloud(moto_url, "shared")
    cloud.publish(graph())
    return start(environ_of(cloud, tmp_path_factory.mktemp("shared")), time.monotonic)


@pytest.fixture
def event() -> Callable[..., dict[str, Any]]:
    """Make an HTTP API event, payload format 2.0."""

    def make(
        method: str, path: str, body: str | None = None, headers: dict[str, str] | None = None, **context: Any
    ) -> dict[str, Any]:
        return {
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": path,
            "rawQueryString": "",
            "headers": headers or {},
            "requestContext": {"http": {"method": method, "path": path}, "stage": "$default", **context},
            "body": body,
            "isBase64Encoded": False,
        }

    return make
