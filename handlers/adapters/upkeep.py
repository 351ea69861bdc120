"""What a sandbox does for itself beside answering: read the snapshot, follow the pointer, report, shadow.

All of it runs in the pool once an answer is ready, so no caller waits for it; a function is frozen after its
answer and goes on with the next request, which these calls survive. Costs are bounded: a snapshot read in
`SNAPSHOT_S`, a pointer read in `POINTER_S`, a report in `REPORT_S`, each at most.

A frozen sandbox cannot speak, and Lambda ends it without a word: what it answered less than `REPORT_S` after
its last report is only told with its next answer, and lost if there is none. So the first answer is reported
at once, as are those that come seldom; CloudWatch's metrics, written with each answer, miss nothing.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

from handlers.errors import TurnoutError
from handlers.serving.shadow import shadow_event

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger

    from handlers.adapters.state import StateTable
    from handlers.routing.budget import Account, Budget
    from handlers.routing.types import Snapshot
    from handlers.serving.calls import Answer
    from handlers.serving.paths import Job
    from handlers.serving.release import Served
    from handlers.settings import Settings

SNAPSHOT_S = 15.0
POINTER_S = 60.0
REPORT_S = 60.0
CLIENT_TIMEOUT_S = 1.0
MODEL_TIMEOUT_S = 29.0


class AwsClients:
    """boto3 clients, each made once and only when needed; none retries for long."""

    def __init__(self, region: str) -> None:
        self._region = region
        self._lock = threading.Lock()
        self._clients: dict[str, Any] = {}

    def get(self, service: str, *, patient: bool = False) -> Any:
        """The client of a service; `patient`: for calls that take as long as a model, and are not repeated.

        Importing boto3 takes longer than a cold start without it, so this is not for init.
        """
        with self._lock:
            if service not in self._clients:
                import boto3
                from botocore.config import Config

                config = Config(
                    region_name=self._region,
                    connect_timeout=CLIENT_TIMEOUT_S,
                    read_timeout=MODEL_TIMEOUT_S if patient else CLIENT_TIMEOUT_S,
                    retries={"total_max_attempts": 1 if patient else 2, "mode": "standard"},
                )
                self._clients[service] = boto3.client(service, config=config)
            return self._clients[service]


class Upkeep:
    """Implements `serving.service.Shared`; `now` is epoch seconds throughout."""

    def __init__(
        self,
        settings: Settings,
        clients: AwsClients,
        pool: Executor,
        logger: Logger,
        follow_pointer: Callable[[], None],
        now: float,
    ) -> None:
        self._settings = settings
        self._clients = clients
        self._pool = pool
        self._logger = logger
        self._follow_pointer = follow_pointer
        self._sandbox = ""
        self._snapshot_at = float("-inf")
        self._pointer_at = now
        self._reported_at = float("-inf")
        self.published: Snapshot | None = None
        self.ahead: list[Callable[[], object]] = []
        """What the next answer may need and the first should not wait for; begun after the first."""

    def after(self, now: float, drain: Callable[[], str]) -> None:
        """Start what is due; `drain` gives the report's body and is called in the caller's thread."""
        while self.ahead:
            self.ahead.pop()()
        if now - self._pointer_at >= POINTER_S:
            self._pointer_at = now
            self._submit(self._follow_pointer)
        if not self._settings.table:
            return
        if now - self._snapshot_at >= SNAPSHOT_S:
            self._snapshot_at = now
            self._submit(self.read_snapshot)
        if now - self._reported_at >= REPORT_S:
            self._reported_at = now
            # Not at init: sandboxes that SnapStart restores from one snapshot must not share a name.
            self._sandbox = self._sandbox or os.urandom(6).hex()
            minute, body = int(now // 60.0), drain()
            self._submit(lambda: self._state().report(self._settings.model, minute, self._sandbox, body, now))

    def read_snapshot(self) -> None:
        """Read what the control loop published last; what cannot be read leaves things as they are."""
        from handlers.routing.codec import from_json

        row = self._state().snapshot(self._settings.model)
        if row is not None:
            self.published = from_json(row.body)

    def covered(self, account: Account, budget: Budget, cost_usd: float, now: float) -> Account:
        """As `serving.ledger.Counter`: grants from the shared counter."""
        from handlers.adapters.budget_store import BudgetStore

        store = BudgetStore(self._clients.get("dynamodb"), self._settings.table)
        return store.covered(account, budget, cost_usd, now)

    def shadow(self, served: Served, job: Job, answer: Answer) -> None:
        """Invoke this function once more, asynchronously, with the work for the GPU."""
        payload = shadow_event(served.manifest, job, answer)
        if payload is not None:
            self._submit(lambda: self._invoke(payload))

    def _invoke(self, payload: dict[str, Any]) -> None:
        reply = self._clients.get("lambda").invoke(
            FunctionName=self._settings.function_name,
            Qualifier=self._settings.alias,
            InvocationType="Event",
            Payload=json.dumps(payload).encode(),
        )
        reply["Payload"].read()  # or else the connection is not used again

    def _state(self) -> StateTable:
        from handlers.adapters.state import StateTable

        return StateTable(self._clients.get("dynamodb"), self._settings.table)

    def _submit(self, work: Callable[[], None]) -> None:
        self._pool.submit(self._guarded, work)

    def _guarded(self, work: Callable[[], None]) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            work()
        except (TurnoutError, BotoCoreError, ClientError, OSError) as error:
            self._logger.warning("upkeep failed", extra={"error": f"{type(error).__name__}: {error}"})
