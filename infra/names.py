"""What everything that turnout deploys is called; fixed names are how the stacks and the command find it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one stage."""

    stage: str

    @property
    def prefix(self) -> str:
        """What every name of the stage starts with."""
        return f"turnout-{self.stage}"

    def stack(self, part: str) -> str:
        """A stack, such as turnout-dev-storage."""
        return f"{self.prefix}-{part}"

    def bucket(self, account: str) -> str:
        """The release bucket; bucket names are global, so the account is part of it."""
        return f"{self.prefix}-releases-{account}"

    @property
    def table(self) -> str:
        """The table of snapshots, reports, leases and budgets."""
        return f"{self.prefix}-state"

    def function(self, model: str) -> str:
        """The function that holds a model."""
        return f"{self.prefix}-{model}"

    def front(self, model: str) -> str:
        """The small function before it, where the topology has one."""
        return f"{self.prefix}-{model}-front"

    @property
    def control(self) -> str:
        """The control loop's function."""
        return f"{self.prefix}-control"

    def endpoint(self, model: str) -> str:
        """The GPU endpoint of a model; its inference component has the same name."""
        return f"{self.prefix}-{model}"

    def pointer(self, model: str) -> str:
        """The SSM parameter that says which release the functions serve."""
        return f"/turnout/{self.stage}/{model}/release"

    def gpu_release(self, model: str) -> str:
        """The SSM parameter that says which release the GPU endpoint's stack deploys: `none` or 16 hex."""
        return f"/turnout/{self.stage}/{model}/gpu-release"

    @property
    def kill_switch(self) -> str:
        """The SSM parameter that stops the control loop: `true` or `false`."""
        return f"/turnout/{self.stage}/control/enabled"

    @property
    def api_id(self) -> str:
        """The SSM parameter that holds the API's id, for the stacks that watch and move it."""
        return f"/turnout/{self.stage}/api/id"

    @property
    def api_url(self) -> str:
        """The SSM parameter that holds where the API answers, for `turnout invoke --stage`."""
        return f"/turnout/{self.stage}/api/url"

    @property
    def alarms(self) -> str:
        """The SNS topic that every alarm, failed training and budget warning goes to."""
        return f"{self.prefix}-alarms"

    def role(self, part: str) -> str:
        """An IAM role that another stack must find by name, such as that of a function."""
        return f"{self.prefix}-{part}"

    def packages(self, model: str) -> str:
        """The SageMaker model package group of a model."""
        return f"{self.prefix}-{model}"

    @property
    def images(self) -> str:
        """The ECR repository of the GPU server's image."""
        return f"{self.prefix}-gpu-server"

    @property
    def builder(self) -> str:
        """The CodeBuild project that compresses, releases and deploys."""
        return f"{self.prefix}-build"

    @property
    def image_builder(self) -> str:
        """The CodeBuild project that makes the GPU server's image."""
        return f"{self.prefix}-image"

    def training(self, model: str) -> str:
        """The state machine that trains a model."""
        return f"{self.prefix}-{model}-training"

    def deployments(self, model: str) -> str:
        """The CodeDeploy deployment group of a model's function; its application is named by the prefix."""
        return f"{self.prefix}-{model}"


def route_variable(model: str) -> str:
    """The API stage variable that names the function which answers for `model` under the auto topology."""
    return model.replace("-", "_")


ALIAS = "live"
VARIANT = "gpu"
API_STAGES = {"http": "$default", "rest": "live"}
"""The one stage of the API, by its kind."""
