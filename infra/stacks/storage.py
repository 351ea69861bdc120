"""Storage: what outlives every deployment. The release bucket, the state table, the pointers."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sagemaker as sagemaker
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from infra.deployment import Deployment

NO_RELEASE = "none"


class StorageStack(cdk.Stack):
    """Stateful: kept on deletion in production."""

    def __init__(self, scope: Construct, name: str, *, deployment: Deployment, env: cdk.Environment) -> None:
        super().__init__(scope, name, env=env, description="turnout: releases, pointers and router state")
        self.keep = cdk.RemovalPolicy.RETAIN if deployment.settings.production else cdk.RemovalPolicy.DESTROY
        names = deployment.names
        key = self._key() if deployment.settings.customer_key else None
        self.bucket = self._bucket(names.bucket(self.account), key)
        self.table = self._table(names.table, key)
        for model in deployment.models:
            ssm.StringParameter(
                self,
                f"Pointer-{model}",
                parameter_name=names.pointer(model),
                string_value=NO_RELEASE,
                description=f"the release of {model} that the functions serve (turnout release deploy)",
            )
            ssm.StringParameter(
                self,
                f"GpuRelease-{model}",
                parameter_name=names.gpu_release(model),
                string_value=NO_RELEASE,
                description=f"the release of {model} that the GPU endpoint serves (turnout release deploy)",
            )
            sagemaker.CfnModelPackageGroup(
                self,
                f"Packages-{model}",
                model_package_group_name=names.packages(model),
                model_package_group_description=f"the registered releases of {model}",
            ).apply_removal_policy(self.keep)
        self._topic(names.alarms, deployment.settings.alarm_email)
        cdk.CfnOutput(self, "Bucket", value=self.bucket.bucket_name)
        first = next(iter(deployment.models))
        cdk.CfnOutput(
            self,
            "Next",
            value=f"turnout release push {first} --stage {deployment.stage}",
            description="upload a release, then deploy the other stacks",
        )

    def _topic(self, name: str, email: str | None) -> None:
        """Where every alarm of the stage goes; CloudWatch and Budgets publish to it."""
        topic = sns.Topic(self, "Alarms", topic_name=name, enforce_ssl=True)
        for service in ("cloudwatch", "budgets"):
            topic.add_to_resource_policy(
                iam.PolicyStatement(
                    sid=f"From{service.title()}",
                    actions=["sns:Publish"],
                    principals=[iam.ServicePrincipal(f"{service}.amazonaws.com")],
                    resources=[topic.topic_arn],
                    conditions={"StringEquals": {"aws:SourceAccount": self.account}},
                )
            )
        if email:
            topic.add_subscription(subscriptions.EmailSubscription(email))

    def _key(self) -> kms.Key:
        """A customer key that S3 and DynamoDB may use for whoever of this account may use them.

        The terms of AWS's own managed keys (KMS developer guide, `kms:ViaService`): a role's permission on
        the bucket or the table is all that it needs, in whichever stack it is.
        """
        key = kms.Key(
            self,
            "Key",
            description="turnout: releases and router state",
            enable_key_rotation=True,
            removal_policy=self.keep,
        )
        services = [f"{service}.{self.region}.amazonaws.com" for service in ("s3", "dynamodb")]
        key.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.AnyPrincipal()],
                actions=[
                    "kms:CreateGrant",
                    "kms:Decrypt",
                    "kms:DescribeKey",
                    "kms:Encrypt",
                    "kms:GenerateDataKey*",
                    "kms:ReEncrypt*",
                ],
                resources=["*"],
                conditions={"StringEquals": {"kms:CallerAccount": self.account, "kms:ViaService": services}},
            )
        )
        return key

    def _bucket(self, name: str, key: kms.Key | None) -> s3.Bucket:
        logs = s3.Bucket(
            self,
            "AccessLogs",
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            encryption=s3.BucketEncryption.S3_MANAGED,
            enforce_ssl=True,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            lifecycle_rules=[s3.LifecycleRule(expiration=cdk.Duration.days(90))],
            removal_policy=self.keep,
        )
        return s3.Bucket(
            self,
            "Releases",
            bucket_name=name,
            versioned=True,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            encryption=s3.BucketEncryption.KMS if key else s3.BucketEncryption.S3_MANAGED,
            encryption_key=key,
            bucket_key_enabled=True if key else None,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            server_access_logs_bucket=logs,
            server_access_logs_prefix="releases/",
            lifecycle_rules=[
                s3.LifecycleRule(
                    noncurrent_version_expiration=cdk.Duration.days(90),
                    abort_incomplete_multipart_upload_after=cdk.Duration.days(7),
                ),
                s3.LifecycleRule(prefix="training/", expiration=cdk.Duration.days(30)),
                s3.LifecycleRule(prefix="capture/", expiration=cdk.Duration.days(30)),
            ],
            removal_policy=self.keep,
        )

    def _table(self, name: str, key: kms.Key | None) -> dynamodb.Table:
        return dynamodb.Table(
            self,
            "State",
            table_name=name,
            partition_key=dynamodb.Attribute(name="pk", type=dynamodb.AttributeType.STRING),
            sort_key=dynamodb.Attribute(name="sk", type=dynamodb.AttributeType.STRING),
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            time_to_live_attribute="expires_at",
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
            encryption=dynamodb.TableEncryption.CUSTOMER_MANAGED if key else None,
            encryption_key=key,
            removal_policy=self.keep,
        )
