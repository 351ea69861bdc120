"""X-Ray subsegments for requests that Lambda samples, by Powertools' Tracer.

The SDK takes longer to import (240 ms, measured) than a cold start without it, so it comes in the background
with the first sampled request, and the traces begin with the next; Lambda's own segments are there always.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aws_lambda_powertools import Tracer

TRACE_VARIABLE = "_X_AMZN_TRACE_ID"
"""Set by Lambda's runtime for each request."""


class Tracing:
    """Subsegments around the answers that Lambda samples."""

    def __init__(self, service: str, pool: Executor, environ: Mapping[str, str]) -> None:
        self._service = service
        self._pool = pool
        self._environ = environ
        self._tracer: Future[Tracer] | None = None

    @property
    def sampled(self) -> bool:
        """Whether Lambda samples this request."""
        try:
            return "Sampled=1" in self._environ[TRACE_VARIABLE]
        except KeyError:
            return False

    def subsegment(self, name: str) -> AbstractContextManager[Any]:
        """A subsegment of a sampled request's trace, or nothing while the SDK is being imported."""
        if self._tracer is None:
            self._tracer = self._pool.submit(self._import)
        if not self._tracer.done():
            return nullcontext()
        opened: AbstractContextManager[Any] = self._tracer.result().provider.in_subsegment(name=name)
        return opened

    def _import(self) -> Tracer:
        from aws_lambda_powertools import Tracer

        return Tracer(service=self._service, auto_patch=False)
