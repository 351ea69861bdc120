"""The function's entry: one HTTP request → one decision → one answer."""

from __future__ import annotations

import os
import time
from typing import Any

from handlers.adapters.bootstrap import start

_RUNNING = start(os.environ, time.monotonic)


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer an HTTP API event (payload format 2.0)."""
    return _RUNNING.answer(event, getattr(context, "aws_request_id", ""))
