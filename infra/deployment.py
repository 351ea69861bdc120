"""One stage, ready to be made into stacks: its configuration, names and prices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from infra.bundling import Target
from infra.config import Config, Model, Stage
from infra.names import Names
from infra.prices.table import PriceTable, known_regions, load_prices

REFERENCE_REGION = "us-east-1"


@dataclass(frozen=True)
class Deployment:
    """What every stack is given."""

    stage: str
    settings: Stage
    models: Mapping[str, Model]
    names: Names
    prices: PriceTable
    target: Target

    @property
    def restrained_roles(self) -> list[str]:
        """The roles that the budget keeps from spending on GPUs at its limit."""
        names, models = self.names, self.models
        fronts = [f"{model}-front" for model, wanted in models.items() if wanted.topology != "colocated"]
        machines = [f"{model}-training" for model in models]
        return [names.role(part) for part in (*models, *fronts, *machines)]

    @property
    def gpu_hours_usd(self) -> dict[str, float]:
        """What an hour of one instance costs, by model; 0 without a GPU."""
        return {
            name: self.prices.instance(model.gpu.instance_type).usd_per_hour if model.gpu else 0.0
            for name, model in self.models.items()
        }

    @classmethod
    def of(cls, config: Config, stage: str) -> Deployment:
        """The deployment of `stage`; InvalidConfig if there is no such stage.

        Economics use the region's prices, or those of us-east-1 where its table was not made yet.
        """
        settings = config.stage(stage)
        region = settings.region if settings.region in known_regions() else REFERENCE_REGION
        return cls(
            stage=stage,
            settings=settings,
            models=config.models_of(stage),
            names=Names(stage),
            prices=load_prices(region),
            target=Target.named(settings.architecture),
        )
