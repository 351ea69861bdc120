"""The shared counter of a budget: a row per scope and window, raised only while it stays within the limit."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from handlers.routing.budget import Account, Budget

NANO = 1e9
KEPT_S = 7 * 86400


class BudgetStore:
    """Rows `budget#{scope}` / `{window}` with `spent_nano_usd`; `client` is a boto3 DynamoDB client."""

    def __init__(self, client: Any, table: str) -> None:
        self._client, self._table = client, table

    def covered(self, account: Account, budget: Budget, cost_usd: float, now: float) -> Account:
        """Return the account with a grant for requests of `cost_usd`, if it needs one and one can be had.

        Where less than a whole grant is left but enough for one request, that is taken.
        """
        account = account.at(budget.key(now))
        wanted = account.wanted_usd(budget, cost_usd)
        if wanted is None:
            return account
        try:
            given, shared = self._take(budget, wanted, now)
            rest = budget.limit_usd - shared
            if not given and rest > 0.0 and rest >= cost_usd - account.left_usd:
                wanted = rest
                given, shared = self._take(budget, wanted, now)
        except (BotoCoreError, ClientError):
            return account.unreachable(wanted)
        return account.granted(wanted, shared) if given else account.refused(shared)

    def _take(self, budget: Budget, grant_usd: float, now: float) -> tuple[bool, float]:
        """Raise the counter by a grant; return whether it went in, and where the counter stands (USD)."""
        grant = int(grant_usd * NANO)
        try:
            answer = self._client.update_item(
                TableName=self._table,
                Key={"pk": {"S": f"budget#{budget.scope}"}, "sk": {"S": budget.key(now)}},
                UpdateExpression="ADD spent_nano_usd :grant SET expires_at = :end",
                ConditionExpression="attribute_not_exists(spent_nano_usd) OR spent_nano_usd <= :most",
                ExpressionAttributeValues={
                    ":grant": {"N": str(grant)},
                    ":most": {"N": str(int(budget.limit_usd * NANO) - grant)},
                    ":end": {"N": str(int(budget.ends_at(now)) + KEPT_S)},
                },
                ReturnValues="UPDATED_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            held: Any = error.response
            row = held.get("Item", {})
            return False, float(row.get("spent_nano_usd", {}).get("N", budget.limit_usd * NANO)) / NANO
        return True, float(answer["Attributes"]["spent_nano_usd"]["N"]) / NANO
