"""Signed requests to AWS without boto3, for what a cold start waits for.

Importing boto3 and making two clients takes longer than all the rest of a cold start together (measured:
docs/api.md), and all that init needs is one GetParameter and a few GetObject. The signature is AWS's
documented Signature Version 4 (IAM User Guide, "Create a signed AWS API request").
"""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from handlers.errors import InvalidConfig

TRIES = 3
TIMEOUT_S = 5.0


class Credentials(NamedTuple):
    """What requests are signed with; `token` is empty for a long-lived key."""

    access_key: str
    secret_key: str
    token: str


class Reply(NamedTuple):
    """An HTTP answer of any status."""

    status: int
    body: bytes


def credentials_of(environ: Mapping[str, str]) -> Credentials:
    """From the environment, or under SnapStart from the runtime's credentials URI. Raises InvalidConfig."""
    if "AWS_ACCESS_KEY_ID" in environ and "AWS_SECRET_ACCESS_KEY" in environ:
        return Credentials(
            environ["AWS_ACCESS_KEY_ID"],
            environ["AWS_SECRET_ACCESS_KEY"],
            environ.get("AWS_SESSION_TOKEN", ""),
        )
    uri = environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    if uri is None:
        raise InvalidConfig("AWS_ACCESS_KEY_ID", None, "credentials in the environment")
    headers = {"Authorization": environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", "")}
    reply = _send("GET", uri, headers, b"")
    document = json.loads(reply.body)
    return Credentials(document["AccessKeyId"], document["SecretAccessKey"], document["Token"])


def endpoint_of(service: str, region: str, environ: Mapping[str, str]) -> str:
    """The service's base URL; AWS_ENDPOINT_URL[_SERVICE] override it as they do for the SDKs."""
    override = environ.get(f"AWS_ENDPOINT_URL_{service.upper()}") or environ.get("AWS_ENDPOINT_URL")
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return (override or f"https://{service}.{region}.{suffix}").rstrip("/")


class SignedHttp:
    """Requests to one region, signed with the function's own credentials; `now` gives epoch seconds."""

    def __init__(self, region: str, environ: Mapping[str, str], now: Callable[[], float] = time.time) -> None:
        self._region = region
        self._environ = environ
        self._now = now

    def call(
        self,
        service: str,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Reply:
        """Send, up to three times while the answer is a 5xx, a throttle or a broken connection.

        `path` is not yet percent-encoded. Raises OSError when the last try fails.
        """
        url = endpoint_of(service, self._region, self._environ) + quote(path, safe="/-_.~")
        for attempt in range(1, TRIES + 1):
            signed = sign(
                method,
                url,
                headers or {},
                body,
                credentials_of(self._environ),
                (self._region, service),
                self._now(),
            )
            try:
                reply = _send(method, url, signed, body)
                if (reply.status < 500 and reply.status != 429) or attempt == TRIES:
                    return reply
            except OSError:
                if attempt == TRIES:
                    raise
            time.sleep(0.05 * 2**attempt)
        raise AssertionError("unreachable: the last attempt returns or raises")


def sign(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    credentials: Credentials,
    scope: tuple[str, str],
    now: float,
) -> dict[str, str]:
    """The headers to send: the given ones, and date, content hash, token and authorization.

    `scope` is (region, service) and `now` epoch seconds. The query string is not supported.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    parts = urlsplit(url)
    digest = hashlib.sha256(body).hexdigest()
    sent = {name.lower(): value for name, value in headers.items()}
    sent |= {"host": parts.netloc, "x-amz-date": stamp, "x-amz-content-sha256": digest}
    if credentials.token:
        sent["x-amz-security-token"] = credentials.token
    names = sorted(sent)
    lines = [method, parts.path or "/", "", *(f"{name}:{sent[name].strip()}" for name in names), ""]
    canonical = "\n".join((*lines, ";".join(names), digest))
    day = f"{stamp[:8]}/{scope[0]}/{scope[1]}/aws4_request"
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    key = ("AWS4" + credentials.secret_key).encode()
    for part in day.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{day}\n{hashed}"
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    sent["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{day},"
        f" SignedHeaders={';'.join(names)}, Signature={signature}"
    )
    return sent


def _send(method: str, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
    """One HTTP/1.1 exchange on a connection of its own. Raises OSError for a broken one.

    http.client would do it too, and costs a cold start 15 ms for the e-mail parser that it imports.
    """
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    sent = {"host": parts.netloc, **headers, "Content-Length": str(len(body)), "Connection": "close"}
    lines = [f"{method} {parts.path or '/'} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items())]
    host = parts.hostname or ""
    # As bytes, because for a str CPython imports its IDNA codec (4 ms), which no AWS name needs.
    address: tuple[Any, int] = (host.encode("ascii"), parts.port or (443 if secure else 80))
    with socket.create_connection(address, TIMEOUT_S) as plain:
        connection = _encrypted(plain, host) if secure else plain
        connection.sendall("\r\n".join((*lines, "", "")).encode() + body)
        received = b"".join(iter(lambda: connection.recv(262_144), b""))
    head, _, content = received.partition(b"\r\n\r\n")
    status, *fields = head.decode("latin-1").split("\r\n")
    if not status.startswith("HTTP/1."):
        raise ConnectionError(f"{parts.netloc} answered {status[:40]!r}, not HTTP/1.1")
    named = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
    if named.get("transfer-encoding", "").lower() == "chunked":
        content = _unchunked(content)
    elif len(content) != int(named.get("content-length", len(content))):
        raise ConnectionError(f"{parts.netloc} closed the connection after {len(content)} bytes")
    return Reply(int(status.split()[1]), content)


def _encrypted(plain: socket.socket, host: str) -> socket.socket:
    import ssl  # not needed where the endpoint is local

    return ssl.create_default_context().wrap_socket(plain, server_hostname=host)


def _unchunked(content: bytes) -> bytes:
    chunks: list[bytes] = []
    while True:
        size, found, content = content.partition(b"\r\n")
        length = int(size.split(b";")[0], 16) if found else -1
        if length < 0 or len(content) < length + 2:
            raise ConnectionError("the connection was closed within a chunk")
        if length == 0:
            return b"".join(chunks)
        chunks.append(content[:length])
        content = content[length + 2 :]
