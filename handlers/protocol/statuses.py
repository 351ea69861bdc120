"""The one place where errors become HTTP statuses."""

from __future__ import annotations

import math

from handlers.errors import (
    BudgetExhausted,
    InvalidInput,
    Overloaded,
    PayloadTooLarge,
    PointerMissing,
    Refused,
    ReleaseError,
    TurnoutError,
    UnknownModel,
)
from handlers.protocol.http import HttpResponse, json_response
from handlers.protocol.routes import MethodNotAllowed, NotFound

STATUSES: tuple[tuple[type[TurnoutError], int], ...] = (
    (NotFound, 404),
    (MethodNotAllowed, 405),
    (UnknownModel, 404),
    (PayloadTooLarge, 413),
    (InvalidInput, 400),
    (BudgetExhausted, 429),
    (Overloaded, 503),
    (PointerMissing, 404),
    (ReleaseError, 424),  # what the model depends on failed; nothing that the caller or the function can mend
)
"""First match wins, so subclasses come before their base."""


def error_response(error: TurnoutError, headers: dict[str, str] | None = None) -> HttpResponse:
    """`{"error": …}` with its status, and Retry-After where the error knows when to come back."""
    status = next((status for kind, status in STATUSES if isinstance(error, kind)), 500)
    extra = dict(headers or {})
    if isinstance(error, Refused):
        extra["retry-after"] = str(max(1, math.ceil(error.retry_after_s)))
    return json_response({"error": str(error)}, status, extra)
