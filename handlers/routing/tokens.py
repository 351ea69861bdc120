"""A token bucket for extra calls: hedges and retries together stay a small share of the requests."""

from __future__ import annotations

from typing import NamedTuple

EXTRA_SHARE = 0.02
EXTRA_BURST = 2.0


class Tokens(NamedTuple):
    """Each request earns `EXTRA_SHARE` of a token, up to `EXTRA_BURST`; each extra call takes a whole one.

    So n requests are followed by at most EXTRA_SHARE · n + EXTRA_BURST extra calls.
    """

    left: float = 1.0

    def earned(self) -> Tokens:
        """Return the bucket after one more request."""
        if self.left >= EXTRA_BURST:
            return self
        return Tokens(min(self.left + EXTRA_SHARE, EXTRA_BURST))

    def taken(self) -> Tokens | None:
        """Return the bucket after one extra call, or None when there is no token for it."""
        return Tokens(self.left - 1.0) if self.left >= 1.0 else None


def retry_delay_ms(
    tokens: Tokens, remaining_ms: float, predicted_ms: float, retry_after_ms: float | None, attempt: int
) -> float | None:
    """Return how long to wait before trying again, or None when it is not worth it.

    A second try must have a token, and must fit into what is left of the one deadline after the wait that the
    other side asked for (`retry_after_ms`); unasked, the wait doubles with each `attempt`, from 10 ms.
    """
    delay_ms = retry_after_ms if retry_after_ms is not None else 10.0 * 2.0**attempt
    if tokens.left < 1.0 or delay_ms + predicted_ms > remaining_ms:
        return None
    return delay_ms
