"""Training: a state machine a model, the jobs' role, the builders, the image repository."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import aws_cdk as cdk
from aws_cdk import aws_codebuild as codebuild
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3_assets as assets
from constructs import Construct

from infra import base_images
from infra.constructs.builder import NOT_SOURCE, Builder
from infra.constructs.builder_grants import build_grants, image_grants, trainer_grants
from infra.constructs.gpu_image import image_uri
from infra.constructs.training_job import TrainingNames
from infra.constructs.training_machine import TrainingMachine
from infra.deployment import Deployment
from infra.names import ALIAS

ROOT = Path(__file__).parent.parent.parent
BUILD = {
    "install": ["pip install -c constraints.txt -e .", "npm ci"],
    "build": ['python -m scripts.remote_build "$TURNOUT_COMMAND"'],
}
IMAGE = {
    "pre_build": [
        f'aws ecr get-login-password | docker login --username AWS --password-stdin "${registry}"'
        for registry in ("REGISTRY", "BASE_REGISTRY")
    ],
    "build": [
        f'docker build --build-arg BASE_IMAGE -f {dockerfile} -t "${image}" . && docker push "${image}"'
        for dockerfile, image in (
            ("model_build/gpu_server/Dockerfile", "SERVING_IMAGE"),
            ("infra/images/training.Dockerfile", "TRAINING_IMAGE"),
        )
    ],
}


class TrainingStack(cdk.Stack):
    """What turns data into a deployed release without a laptop."""

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        deployment: Deployment,
        env: cdk.Environment,
        base: base_images.BaseImage | None = None,
    ) -> None:
        super().__init__(scope, name, env=env, description="turnout: training, compression, release")
        self._deployment = deployment
        self._base = base or base_images.base_image()
        names = deployment.names
        source = assets.Asset(self, "Source", path=str(ROOT), exclude=NOT_SOURCE)
        self._images(source)
        self._builder(source)
        trainer = iam.Role(self, "Trainer", assumed_by=iam.ServicePrincipal("sagemaker.amazonaws.com"))
        for statement in trainer_grants(self, deployment):
            trainer.add_to_policy(statement)
        for model, settings in deployment.models.items():
            TrainingMachine(
                self,
                f"Train-{model}",
                deployment=deployment,
                names=self._names(model, trainer),
                settings=settings.training,
                builder_arn=self.format_arn(
                    service="codebuild", resource="project", resource_name=names.builder
                ),
                trainer=trainer,
            )
        first = next(iter(deployment.models))
        cdk.CfnOutput(self, "TrainerRole", value=trainer.role_arn)
        cdk.CfnOutput(self, "Bucket", value=names.bucket(self.account))
        cdk.CfnOutput(self, "Next", value=f"turnout train {first} --on pipeline --stage {deployment.stage}")

    def _names(self, model: str, trainer: iam.Role) -> TrainingNames:
        deployment, names = self._deployment, self._deployment.names
        return TrainingNames(
            stage=deployment.stage,
            model=model,
            recipe=deployment.models[model].recipe,
            image=image_uri(self, deployment, "training"),
            role_arn=trainer.role_arn,
            bucket=names.bucket(self.account),
            builder=names.builder,
            alias=f"{names.function(model)}:{ALIAS}",
            packages=names.packages(model),
            topic_arn=self.format_arn(service="sns", resource=names.alarms),
        )

    def _images(self, source: assets.Asset) -> None:
        deployment, names = self._deployment, self._deployment.names
        production = deployment.settings.production
        repository = ecr.Repository(
            self,
            "Images",
            repository_name=names.images,
            image_scan_on_push=True,
            image_tag_mutability=ecr.TagMutability.IMMUTABLE,
            encryption=ecr.RepositoryEncryption.AES_256,
            lifecycle_rules=[ecr.LifecycleRule(max_image_count=10)],
            empty_on_delete=None if production else True,
            removal_policy=cdk.RemovalPolicy.RETAIN if production else cdk.RemovalPolicy.DESTROY,
        )
        base = self._base
        notice = base_images.warning(base, datetime.now(tz=UTC).date())
        if notice:
            cdk.Annotations.of(self).add_warning_v2("turnout:baseImage", notice)
        base_uri = base_images.uri(base, deployment.settings.region)
        serving, training = (image_uri(self, deployment, kind) for kind in ("serving", "training"))
        builder = Builder(
            self,
            "ImageBuilder",
            deployment=deployment,
            name=names.image_builder,
            source=source,
            image=codebuild.LinuxBuildImage.AMAZON_LINUX_2_5,
            compute=codebuild.ComputeType.LARGE,
            phases=IMAGE,
            environment={
                "SERVING_IMAGE": serving,
                "TRAINING_IMAGE": training,
                "REGISTRY": serving.split("/")[0],
                "BASE_IMAGE": base_uri,
                "BASE_REGISTRY": base_uri.split("/")[0],
            },
            timeout_minutes=60,
            privileged=True,
        )
        for statement in image_grants(self, repository.repository_arn, base_uri, source):
            builder.role.add_to_policy(statement)
        cdk.CfnOutput(
            self,
            "BuildImage",
            value=f"aws codebuild start-build --project-name {names.image_builder}",
            description="once for every change of the GPU server",
        )

    def _builder(self, source: assets.Asset) -> None:
        deployment, names = self._deployment, self._deployment.names
        arm = deployment.target.architecture == "arm64"
        builder = Builder(
            self,
            "Build",
            deployment=deployment,
            name=names.builder,
            source=source,
            image=(
                codebuild.LinuxArmBuildImage.AMAZON_LINUX_2023_STANDARD_3_0
                if arm
                else codebuild.LinuxBuildImage.AMAZON_LINUX_2_5
            ),
            compute=codebuild.ComputeType.LARGE,
            phases=BUILD,
            environment={"TURNOUT_STAGE": deployment.stage, "TURNOUT_BUCKET": names.bucket(self.account)},
            timeout_minutes=120,
        )
        for statement in build_grants(self, deployment, source):
            builder.role.add_to_policy(statement)
