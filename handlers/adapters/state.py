"""The state table, for the control loop: snapshots, reports, the lease and the loop's own memory.

Keys (pk / sk): snapshot#{model} / current, report#{model} / {minute}#{sandbox}, lease#control / lease,
capacity#{model} / state. Rows of a kind that outlives its use carry `expires_at` (epoch s, DynamoDB's TTL).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from handlers.routing.report import MAX_MINUTES

REPORT_TTL_S = (MAX_MINUTES + 10) * 60


@dataclass(frozen=True, slots=True)
class Row:
    """A body and the version it was stored with."""

    body: str
    version: int


class StateTable:
    """Reads and conditional writes; `client` is a boto3 DynamoDB client."""

    def __init__(self, client: Any, table: str) -> None:
        self._client, self._table = client, table

    def lease(self, owner: str, now: float, ttl_s: float) -> bool:
        """Take or renew the control loop's lease until `now + ttl_s`; False while another holds it."""
        return self._written(
            Key={"pk": {"S": "lease#control"}, "sk": {"S": "lease"}},
            UpdateExpression="SET #o = :owner, #u = :until",
            ConditionExpression="attribute_not_exists(#o) OR #o = :owner OR #u < :now",
            ExpressionAttributeNames={"#o": "owner", "#u": "until"},
            ExpressionAttributeValues={
                ":owner": {"S": owner},
                ":now": {"N": repr(now)},
                ":until": {"N": repr(now + ttl_s)},
            },
        )

    def memory(self, model: str) -> Row | None:
        """Return what the control loop remembers of a model."""
        return self._read(f"capacity#{model}", "state")

    def remember(self, model: str, body: str, version: int) -> bool:
        """Store the loop's memory as `version`; False when that version or a later one is there already."""
        return self._newer(f"capacity#{model}", "state", body, version, None)

    def snapshot(self, model: str) -> Row | None:
        """Return the published snapshot."""
        return self._read(f"snapshot#{model}", "current")

    def publish(self, model: str, body: str, version: int, expires_at: float) -> bool:
        """Publish a snapshot; False when one of that version or a later one is there already."""
        return self._newer(f"snapshot#{model}", "current", body, version, expires_at)

    def report(self, model: str, minute: int, sandbox: str, body: str, now: float) -> None:
        """Store one sandbox's report of a minute (epoch minutes)."""
        self._client.put_item(
            TableName=self._table,
            Item={
                "pk": {"S": f"report#{model}"},
                "sk": {"S": f"{minute}#{sandbox}"},
                "body": {"S": body},
                "expires_at": {"N": str(int(now) + REPORT_TTL_S)},
            },
        )

    def reports(self, model: str, after: int, before: int) -> Iterator[str]:
        """Yield the reports of the minutes between, both excluded, at most the last `MAX_MINUTES`."""
        first = max(after + 1, before - MAX_MINUTES)
        if first >= before:
            return
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            KeyConditionExpression="pk = :pk AND sk BETWEEN :first AND :last",
            ExpressionAttributeValues={
                ":pk": {"S": f"report#{model}"},
                ":first": {"S": f"{first}#"},
                ":last": {"S": f"{before - 1}#~"},
            },
        )
        for page in pages:
            for item in page["Items"]:
                yield item["body"]["S"]

    def _read(self, pk: str, sk: str) -> Row | None:
        answer = self._client.get_item(
            TableName=self._table, Key={"pk": {"S": pk}, "sk": {"S": sk}}, ConsistentRead=True
        )
        item = answer.get("Item")
        if item is None:
            return None
        return Row(item.get("body", {}).get("S", ""), int(item.get("version", {}).get("N", "0")))

    def _newer(self, pk: str, sk: str, body: str, version: int, expires_at: float | None) -> bool:
        values = {":b": {"S": body}, ":v": {"N": str(version)}}
        sets = "SET body = :b, #v = :v"
        if expires_at is not None:
            values[":e"] = {"N": str(int(expires_at))}
            sets += ", expires_at = :e"
        return self._written(
            Key={"pk": {"S": pk}, "sk": {"S": sk}},
            UpdateExpression=sets,
            ConditionExpression="attribute_not_exists(#v) OR #v < :v",
            ExpressionAttributeNames={"#v": "version"},
            ExpressionAttributeValues=values,
        )

    def _written(self, **update: Any) -> bool:
        try:
            self._client.update_item(TableName=self._table, **update)
        except ClientError as error:
            if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
                return False
            raise
        return True
