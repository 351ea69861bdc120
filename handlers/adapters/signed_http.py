"""Signed requests to AWS without boto3, for what a cold start waits for.

Importing boto3 and making two clients takes longer than all the rest of a cold start together (measured:
docs/api.md), and all that init needs is one GetParameter and a few GetObject. The signature is AWS's
documented Signature Version 4 (IAM User Guide, "Create a signed AWS API request").
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple
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

        `path` is not yet percent-encoded. Raises OSError or HTTPException when the last try fails.
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
            except (OSError, http.client.HTTPException):
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
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.netloc, timeout=TIMEOUT_S)
    try:
        connection.request(method, parts.path or "/", body, dict(headers))
        response = connection.getresponse()
        return Reply(response.status, response.read())
    finally:
        connection.close()
