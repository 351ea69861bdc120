"""A plain HTTP client of the inference API, for the commands: standard library, JSON tensors."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handlers.errors import InvalidInput, LocalCloudError
from scripts.local.release_upload import current


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: its JSON, its `Server-Timing` and how long the caller waited."""

    status: int
    body: dict[str, Any]
    server_timing: str
    elapsed_ms: float


def sample(store: Path, model: str, index: int) -> dict[str, Any]:
    """One held-out example of the model's current release: `inputs` and its true `label`.

    Raises InvalidInput when there is no such sample, PointerMissing without a release.
    """
    release = current(store, model)
    samples = json.loads((release.folder / release.manifest()["samples"]).read_bytes())["samples"]
    if not 0 <= index < len(samples):
        raise InvalidInput("--sample", index, f"0 to {len(samples) - 1}")
    found: dict[str, Any] = samples[index]
    return found


def plain(_url: str, _body: bytes) -> dict[str, str]:
    """The headers of a call that nothing has to authorise."""
    return {"Content-Type": "application/json"}


def ask(
    url: str,
    body: Mapping[str, Any],
    timeout_s: float = 35.0,
    headers: Callable[[str, bytes], dict[str, str]] = plain,
) -> Reply:
    """POSTs JSON. Raises LocalCloudError when nothing listens; an HTTP error is a Reply like any other."""
    data = json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers(url, data))  # noqa: S310  # http(s) only
    started = time.perf_counter()
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:  # noqa: S310  # as above
            return reply(answer.status, answer.read(), answer.headers.get("Server-Timing", ""), started)
    except urllib.error.HTTPError as error:
        return reply(error.code, error.read(), error.headers.get("Server-Timing", ""), started)
    except OSError as error:
        raise LocalCloudError(f"nothing answers at {url} ({error}): turnout up, or say --url") from None


def reply(status: int, raw: bytes, timing: str, started: float) -> Reply:
    elapsed_ms = (time.perf_counter() - started) * 1000
    try:
        body = json.loads(raw)
    except ValueError:
        body = {"error": raw.decode(errors="replace")}
    return Reply(status, body, timing, elapsed_ms)


def error_text(answer: Reply) -> str:
    """What a refusal says."""
    return str(answer.body.get("error") or answer.body.get("message") or answer.body)
