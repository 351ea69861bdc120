"""What the laptop cloud cannot deploy: the one list, with the reason for each type.

A test compares it with what moto really skips of the synthesized stacks, in both directions.
"""

from __future__ import annotations

UNENFORCED = "moto evaluates no resource policy of this kind: there would be nothing to see"

GAPS: dict[str, str] = {
    "AWS::Budgets::Budget": "moto computes no bill, so a budget could never be reached",
    "AWS::Budgets::BudgetsAction": "moto computes no bill, so a budget could never be reached",
    "AWS::CodeDeploy::Application": "moto records deployments but never shifts an alias",
    "AWS::CodeDeploy::DeploymentGroup": "moto records deployments but never shifts an alias",
    "AWS::S3::BucketPolicy": "moto enforces a policy without its conditions: `TLS only` refuses every call",
    "AWS::SNS::TopicPolicy": UNENFORCED,
    "AWS::SQS::QueuePolicy": UNENFORCED,
}
