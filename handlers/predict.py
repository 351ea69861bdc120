"""The function's entry: one HTTP request → one decision → one answer."""

from __future__ import annotations

import os
import time
from typing import Any

from handlers.adapters.bootstrap import start

_RUNNING = start(os.environ, time.monotonic)


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer an event of an HTTP API (payload format 2.0) or a REST API (1.0)."""
    return _RUNNING.answer(event, getattr(context, "aws_request_id", ""))
