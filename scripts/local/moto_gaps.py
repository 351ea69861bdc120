"""What the laptop cloud cannot deploy: the one list, with the reason for each type.

A test compares it with what moto really skips of the synthesized stacks, in both directions.
"""

from __future__ import annotations

GAPS: dict[str, str] = {
    "AWS::CDK::Metadata": "a note for AWS's own statistics; nothing is made",
    "AWS::CodeDeploy::Application": "moto records deployments but never shifts an alias, so a canary would prove "
    "nothing",
    "AWS::CodeDeploy::DeploymentGroup": "as its application",
    "AWS::S3::BucketPolicy": "moto enforces a policy without its conditions: `TLS only` would refuse every call",
}
