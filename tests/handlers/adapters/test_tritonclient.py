"""An unmodified tritonclient[http] talks to the function, binary or not, compressed or not."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from handlers.adapters.wiring import Running

tritonhttp = pytest.importorskip("tritonclient.http")
InferenceServerException = pytest.importorskip("tritonclient.utils").InferenceServerException

IMAGE = np.array([[9, 1, 0, 0], [0, 7, 1, 0]], dtype=np.float32).reshape(2, 1, 2, 2)


class Shim(BaseHTTPRequestHandler):
    """HTTP ↔ event 2.0, as API Gateway does it: lower-case headers, other than text and JSON in base64."""

    protocol_version = "HTTP/1.1"
    running: Running

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        kind = self.headers.get("Content-Type", "application/octet-stream")
        plain = kind.startswith("text/") or kind == "application/json"
        event = {
            "rawPath": "/" + self.path.lstrip("/"),
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "requestContext": {"http": {"method": self.command}, "stage": "$default"},
            "body": body.decode() if plain else base64.b64encode(body).decode(),
            "isBase64Encoded": not plain,
        }
        result = self.running.answer(event, "id")
        raw = result["body"].encode()
        content = base64.b64decode(raw) if result["isBase64Encoded"] else raw
        self.send_response(result["statusCode"])
        for name, value in result["headers"].items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = _answer  # noqa: N815 - the base class's names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Keep quiet."""


@pytest.fixture(scope="module")
def client(shared: Running) -> Iterator[Any]:
    handler = type("Handler", (Shim,), {"running": shared})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    client = tritonhttp.InferenceServerClient(f"127.0.0.1:{server.server_port}")
    client.release = client.get_model_metadata("tiny")["versions"][0]
    yield client
    client.close()
    server.shutdown()
    thread.join()
    server.server_close()


def image_input(binary: bool) -> Any:
    made = tritonhttp.InferInput("image", list(IMAGE.shape), "FP32")
    made.set_data_from_numpy(IMAGE, binary_data=binary)
    return made


def test_GIVEN_tritonclient_WHEN_it_asks_for_metadata_THEN_it_understands_it(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiny")
    assert client.get_server_metadata()["name"] == "turnout"
    metadata = client.get_model_metadata("tiny", client.release)
    assert metadata["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 1, 2, 2]}]


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_GIVEN_tritonclient_WHEN_it_infers_THEN_the_arrays_are_right(
    client: Any, binary_in: bool, binary_out: bool | None, compression: str | None
) -> None:
    names = ("probabilities", "label", "confidence")
    wanted = (
        None
        if binary_out is None
        else [tritonhttp.InferRequestedOutput(name, binary_data=binary_out) for name in names]
    )

    result = client.infer(
        "tiny",
        [image_input(binary_in)],
        outputs=wanted,
        request_id="r1",
        request_compression_algorithm=compression,
    )

    assert result.get_response()["id"] == "r1"
    np.testing.assert_allclose(result.as_numpy("probabilities").sum(axis=1), 1.0, rtol=1e-5)
    labels = [item.decode() if isinstance(item, bytes) else item for item in result.as_numpy("label")]
    assert labels == ["red", "green"]
    assert result.as_numpy("confidence").shape == (2,)


def test_GIVEN_a_version_and_constraints_WHEN_tritonclient_infers_THEN_both_are_honoured(client: Any) -> None:
    result = client.infer(
        "tiny",
        [image_input(True)],
        model_version=client.release,
        headers={"x-turnout-latency-slo-ms": "150"},
        parameters={"path": "cpu"},
    )

    assert result.get_response()["parameters"]["deadline_ms"] == 150.0
    assert result.get_response()["parameters"]["reason"] == "forced"


def test_GIVEN_a_wrong_version_or_model_WHEN_tritonclient_asks_THEN_it_raises_with_our_words(
    client: Any,
) -> None:
    with pytest.raises(InferenceServerException, match="version"):
        client.infer("tiny", [image_input(True)], model_version="7")
    assert not client.is_model_ready("other")
