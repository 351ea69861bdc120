"""Signatures as botocore makes them, and HTTP as servers speak it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from hypothesis import given
from hypothesis import strategies as st

from handlers.adapters.signed_http import Credentials, SignedHttp, credentials_of, endpoint_of, sign
from handlers.errors import InvalidConfig

NOW = 1_790_000_000.25
KEYS = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "secret"}


@given(
    service=st.sampled_from(["s3", "ssm", "dynamodb"]),
    path=st.lists(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.~-]{0,7}", fullmatch=True), max_size=3),
    body=st.binary(max_size=40),
    token=st.sampled_from(["", "session"]),
    target=st.from_regex(r"[A-Za-z.]{1,20}", fullmatch=True),
)
def test_GIVEN_any_request_WHEN_signed_THEN_the_signature_is_botocores(
    service: str, path: list[str], body: bytes, token: str, target: str
) -> None:
    url = f"https://{service}.eu-west-1.amazonaws.com/" + "/".join(path)

    ours = sign(
        "POST",
        url,
        {"x-amz-target": target},
        body,
        Credentials("AKID", "sec", token),
        ("eu-west-1", service),
        NOW,
    )

    request = AWSRequest(
        "POST", url, {"x-amz-target": target, "x-amz-content-sha256": ours["x-amz-content-sha256"]}, body
    )
    request.context["timestamp"] = ours["x-amz-date"]
    if token:
        request.headers["X-Amz-Security-Token"] = token
    kind = S3SigV4Auth if service == "s3" else SigV4Auth
    auth = kind(BotoCredentials("AKID", "sec", token or None), service, "eu-west-1")
    request.headers["X-Amz-Date"] = ours["x-amz-date"]
    canonical = auth.canonical_request(request)
    expected = auth.signature(auth.string_to_sign(request, canonical), request)
    assert ours["authorization"].endswith(f"Signature={expected}")


class Server:
    """Answers each connection with the next of `replies`, raw."""

    def __init__(self) -> None:
        self.replies: list[bytes] = []
        self.requests: list[bytes] = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                self.requests.append(connection.recv(65536))
                connection.sendall(self.replies.pop(0))


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.socket.shutdown(socket.SHUT_RDWR)
    made.socket.close()
    made.thread.join(2)


def get(server: Server) -> tuple[int, bytes]:
    client = SignedHttp("us-east-1", KEYS | {"AWS_ENDPOINT_URL_S3": server.url}, lambda: NOW)
    reply = client.call("s3", "GET", "/bucket/a b")
    return reply.status, reply.body


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
    ],
)
def test_GIVEN_a_whole_answer_WHEN_read_THEN_its_status_and_body(server: Server, reply: bytes) -> None:
    server.replies = [reply]

    assert get(server) == (200, b"hello")
    assert server.requests[0].startswith(b"GET /bucket/a%20b HTTP/1.1\r\nhost: 127.0.0.1")


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"SMTP ready\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhel",
        b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_GIVEN_a_broken_answer_WHEN_the_next_is_whole_THEN_it_was_tried_again(
    server: Server, broken: bytes
) -> None:
    server.replies = [broken, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"]

    assert get(server) == (200, b"ok")


def test_GIVEN_only_broken_answers_WHEN_tried_three_times_THEN_the_last_failure_is_told(
    server: Server,
) -> None:
    server.replies = [b"", b"", b""]
    with pytest.raises(OSError, match="not HTTP"):
        get(server)
    server.replies = [b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"] * 3
    assert get(server)[0] == 500


def test_GIVEN_environments_WHEN_read_THEN_endpoints_and_credentials_follow_the_sdks(
    server: Server, event: Callable[..., object]
) -> None:
    assert endpoint_of("s3", "eu-west-1", {}) == "https://s3.eu-west-1.amazonaws.com"
    assert endpoint_of("s3", "cn-north-1", {}).endswith(".amazonaws.com.cn")
    assert (
        endpoint_of("s3", "x", {"AWS_ENDPOINT_URL": "http://l:1/", "AWS_ENDPOINT_URL_SSM": "http://m"})
        == "http://l:1"
    )
    assert credentials_of(KEYS | {"AWS_SESSION_TOKEN": "t"}) == Credentials("AKID", "secret", "t")
    body = b'{"AccessKeyId": "A", "SecretAccessKey": "S", "Token": "T"}'
    server.replies = [b"HTTP/1.1 200 OK\r\n\r\n" + body]
    environ = {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": server.url,
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": "let me",
    }
    assert credentials_of(environ) == Credentials("A", "S", "T")
    assert b"Authorization: let me" in server.requests[-1]
    with pytest.raises(InvalidConfig, match="AWS_ACCESS_KEY_ID"):
        credentials_of({})
