"""Empties a stage's buckets, so that `cdk destroy` can delete them: AWS deletes none that holds objects."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from handlers.errors import InvalidConfig
from infra.config import Stage
from infra.names import Names

BATCH = 1000  # the most that one DeleteObjects takes


def purge(names: Names, settings: Stage, stacks: Any, s3: Any, *, only_count: bool = False) -> dict[str, int]:
    """Deletes every version of every object in the buckets of the storage stack; returns counts by bucket.

    `stacks` and `s3` are boto3 clients. Raises InvalidConfig for a production stage.
    """
    if settings.production:
        raise InvalidConfig(f"stages.{names.stage}.production", True, "false: production keeps its releases")
    pages = stacks.get_paginator("list_stack_resources").paginate(StackName=names.stack("storage"))
    found = [resource for page in pages for resource in page["StackResourceSummaries"]]
    buckets = [r["PhysicalResourceId"] for r in found if r["ResourceType"] == "AWS::S3::Bucket"]
    return {bucket: _empty(bucket, s3, only_count) for bucket in buckets}


def _empty(bucket: str, s3: Any, only_count: bool) -> int:
    objects = list(_versions(bucket, s3))
    for start in range(0, 0 if only_count else len(objects), BATCH):
        s3.delete_objects(Bucket=bucket, Delete={"Objects": objects[start : start + BATCH], "Quiet": True})
    return len(objects)


def _versions(bucket: str, s3: Any) -> Iterator[dict[str, str]]:
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
        for entry in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
            yield {"Key": entry["Key"], "VersionId": entry["VersionId"]}
