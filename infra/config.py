"""turnout.toml, typed: models, objectives, hardware, stages. A mistake becomes an InvalidConfig."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from handlers.errors import InvalidConfig
from handlers.routing.capacity_types import MAX_INSTANCES
from infra.config_errors import explain, refuse
from infra.prices.table import gpu_types

DEFAULT_PATH = Path(__file__).parent.parent / "turnout.toml"

RetentionDays = Literal[
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 3653
]  # fmt: skip
Canary = Literal["10percent_5minutes", "10percent_10minutes", "linear_10percent_1minute", "all_at_once"]


def _whole(low: int, high: int, unit: str) -> Any:
    return Field(ge=low, le=high, description=f"a whole number of {unit} from {low} to {high}")


def _text(pattern: str, description: str) -> Any:
    return Field(pattern=pattern, description=description)


def _known_gpu(value: object) -> object:
    if value not in gpu_types():
        raise refuse("", value, "one of " + ", ".join(gpu_types()))
    return value


GpuType = Annotated[str, BeforeValidator(_known_gpu)]
Switch = Annotated[bool, Field(description="true or false")]
Minutes = Annotated[int, _whole(5, 7200, "minutes")]
MemoryMb = Annotated[int, Field(ge=128, le=10240)]
ModelName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,19}$")]
StageName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]{0,11}$")]


class Section(BaseModel):
    """A table of turnout.toml: frozen, strict about types, closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Gpu(Section):
    """The GPU endpoint of a model."""

    instance_type: GpuType
    kind: Literal["inference_component", "classic"] = "inference_component"
    min_instances: Annotated[int, _whole(0, MAX_INSTANCES, "instances")] = 0
    max_instances: Annotated[int, _whole(1, MAX_INSTANCES, "instances")] = 1
    missed_escalation_usd: Annotated[
        float,
        Field(
            ge=0, le=100, description="USD from 0 to 100: what an escalation that is missed would be worth"
        ),
    ] = 0.0
    scaling: Literal["economic", "target_tracking"] = "economic"
    image_uri: Annotated[
        str | None, _text(r"^\d{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com/.+$", "an ECR image URI")
    ] = None
    data_capture_percent: Annotated[int, _whole(0, 100, "percent")] = 0

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        low, high = self.min_instances, self.max_instances
        if low > high:
            raise refuse("max_instances", high, f"at least min_instances ({low})")
        if self.kind == "classic" and low == 0:
            raise refuse("min_instances", 0, "1 or more with kind classic; an inference_component may have 0")
        return self


class Budget(Section):
    """What a model may spend in one window before it degrades to CPU and then refuses."""

    usd: Annotated[float, Field(gt=0, le=1e6, description="USD above 0, at most 1000000")]
    window: Literal["hour", "day", "month"] = "day"
    caller_usd: Annotated[
        float | None, Field(gt=0, le=1e6, description="USD above 0 for each caller, at most 1000000")
    ] = None


class Routing(Section):
    """What may be turned of a model's router; `handlers.routing.knobs` says what each does."""

    explore_share: Annotated[float, Field(ge=0, le=0.1, description="a share from 0 to 0.1")] = 0.01
    shadow_share: Annotated[float, Field(ge=0, le=1, description="a share from 0 to 1")] = 0.0
    static_gpu_share: Annotated[float, Field(ge=0, le=1, description="a share from 0 to 1")] = 0.5
    breaker_window_s: Annotated[float, Field(ge=1, le=3600, description="seconds from 1 to 3600")] = 30.0
    breaker_failure_share: Annotated[
        float, Field(ge=0.01, le=1, description="a share of failed calls from 0.01 to 1")
    ] = 0.5
    breaker_min_calls: Annotated[float, Field(ge=1, le=1000, description="calls from 1 to 1000")] = 2.5
    breaker_cooldown_s: Annotated[float, Field(ge=0.1, le=3600, description="seconds from 0.1 to 3600")] = 5.0
    breaker_cooldown_max_s: Annotated[
        float, Field(ge=0.1, le=3600, description="seconds from 0.1 to 3600")
    ] = 60.0
    breaker_probes: Annotated[int, _whole(1, 100, "successes in a row")] = 2

    @model_validator(mode="after")
    def _cools_longer(self) -> Self:
        least, most = self.breaker_cooldown_s, self.breaker_cooldown_max_s
        if most < least:
            raise refuse("breaker_cooldown_max_s", most, f"at least breaker_cooldown_s ({least:g})")
        return self


class Training(Section):
    """How a model is trained on SageMaker; instance types are tried in order when capacity lacks."""

    instance_types: Annotated[
        tuple[GpuType, ...],
        Field(min_length=1, max_length=5, strict=False, description="a list of 1 to 5 GPU instance types"),
    ] = ("ml.g5.xlarge", "ml.g4dn.xlarge", "ml.g6.xlarge")
    spot: Switch = True
    max_runtime_minutes: Minutes = 60
    max_wait_minutes: Minutes = 120
    warm_pool_minutes: Annotated[int, _whole(0, 60, "minutes")] = 0
    schedule: Annotated[
        str | None, _text(r"^(rate|cron)\(.+\)$", 'an EventBridge schedule such as "rate(7 days)"')
    ] = None

    @model_validator(mode="after")
    def _waits(self) -> Self:
        if self.spot and self.max_wait_minutes < self.max_runtime_minutes:
            allowed = f"at least max_runtime_minutes ({self.max_runtime_minutes})"
            raise refuse("max_wait_minutes", self.max_wait_minutes, allowed)
        if self.spot and self.warm_pool_minutes:
            allowed = "0 while spot is true: SageMaker keeps no warm pool for managed spot"
            raise refuse("warm_pool_minutes", self.warm_pool_minutes, allowed)
        return self


class Model(Section):
    """A model that users call."""

    recipe: Annotated[str, _text(r"^[a-z][a-z0-9_]{0,39}$", "the name of a file in model_build/recipes")]
    memory_mb: Annotated[
        MemoryMb | Literal["auto"],
        Field(
            description='a whole number of MB from 128 to 10240, or "auto": what the release measured as best'
        ),
    ] = "auto"
    front_memory_mb: Annotated[int, _whole(128, 10240, "MB")] = 256
    latency_slo_ms: Annotated[
        float, Field(ge=1, le=29000, description="a number of milliseconds from 1 to 29000")
    ]
    attainment: Annotated[
        float, Field(ge=0.5, le=0.9999, description="a share of requests from 0.5 to 0.9999")
    ] = 0.99
    policy: Literal["turnout", "cpu_only", "gpu_only", "static_split", "latency_only"] = "turnout"
    topology: Literal["colocated", "split", "auto"] = "colocated"
    reserved_concurrency: Annotated[int | None, _whole(1, 1000, "concurrent requests")] = None
    min_agreement: Annotated[
        float,
        Field(ge=0, le=1, description="a share from 0 to 1: of the shadowed answers that the GPU confirms"),
    ] = 0.95
    gpu: Annotated[Gpu | None, Field(description="a table with instance_type, or absent for CPU only")] = None
    budget: Annotated[Budget | None, Field(description="a table with usd and window, or absent")] = None
    routing: Annotated[Routing, Field(description="a table of the router's shares")] = Routing()
    training: Annotated[Training, Field(description="a table of training settings")] = Training()

    @property
    def has_shadows(self) -> bool:
        """Whether some of the CPU's answers are repeated on the GPU, to see whether they agree."""
        return self.gpu is not None and self.routing.shadow_share > 0

    @model_validator(mode="after")
    def _needs_gpu(self) -> Self:
        if self.gpu is None and self.topology != "colocated":
            raise refuse("topology", self.topology, "colocated, unless the model has a [gpu] table")
        if self.gpu is None and self.policy in ("gpu_only", "static_split"):
            raise refuse("policy", self.policy, "turnout, cpu_only or latency_only without a [gpu] table")
        if self.gpu is None and self.routing.shadow_share:
            raise refuse("routing.shadow_share", self.routing.shadow_share, "0 without a [gpu] table")
        return self


class Jwt(Section):
    """Who issues the tokens that the API accepts."""

    issuer: Annotated[str, _text(r"^https://.+$", "an https URL")]
    audience: Annotated[tuple[str, ...], Field(min_length=1, strict=False, description="a list of audiences")]


class Domain(Section):
    """A custom domain for the API."""

    name: Annotated[str, _text(r"^[a-z0-9.-]+\.[a-z]+$", "a domain name")]
    certificate_arn: Annotated[str, _text(r"^arn:aws[a-z-]*:acm:.+$", "the ARN of an ACM certificate")]


class Stage(Section):
    """One deployment of the models: where, how guarded, at what limit."""

    region: Annotated[str, _text(r"^[a-z]{2}(-[a-z]+)+-\d$", "an AWS region")] = "us-east-1"
    account: Annotated[str | None, _text(r"^\d{12}$", "a string of 12 digits")] = None
    models: Annotated[
        tuple[str, ...], Field(min_length=1, strict=False, description="a list of names from [models]")
    ]
    production: Switch = True
    architecture: Literal["arm64", "x86_64", "host"] = "arm64"
    auth: Literal["iam", "jwt", "none"] = "iam"
    jwt: Annotated[Jwt | None, Field(description="a table with issuer and audience")] = None
    api: Literal["http", "rest"] = "http"
    domain: Annotated[Domain | None, Field(description="a table with name and certificate_arn")] = None
    cors_origins: Annotated[tuple[str, ...], Field(strict=False, description="a list of origins")] = ()
    throttle_rps: Annotated[int, _whole(1, 10000, "requests a second")] = 100
    throttle_burst: Annotated[int, _whole(1, 5000, "requests")] = 200
    snapstart: Switch = True
    canary: Canary = "10percent_5minutes"
    customer_key: Switch = False
    monthly_limit_usd: Annotated[
        float, Field(gt=0, le=1e7, description="USD a month above 0, at most 10000000")
    ]
    log_retention_days: RetentionDays = 30
    log_share: Annotated[float, Field(ge=0, le=1, description="a share of requests from 0 to 1")] = 1.0
    alarm_email: Annotated[str | None, _text(r"^[^@\s]+@[^@\s]+$", "an e-mail address")] = None

    @model_validator(mode="after")
    def _authorised(self) -> Self:
        if self.auth == "none" and self.production:
            raise refuse("auth", "none", "iam or jwt while production is true (its default)")
        if self.auth == "jwt" and self.jwt is None:
            raise refuse("jwt", None, "a table with issuer and audience, because auth is jwt")
        if self.api == "rest" and self.auth == "jwt":
            raise refuse("auth", "jwt", "iam or none with api rest: a REST API has no JWT authorizer")
        if self.api == "rest" and self.cors_origins:
            raise refuse("cors_origins", list(self.cors_origins), "none with api rest, which answers no CORS")
        return self


class Config(Section):
    """All of turnout.toml."""

    models: Annotated[
        Mapping[ModelName, Model],
        Field(
            min_length=1, description="[models.NAME] tables; a name is a-z, 0-9 and -, at most 20 characters"
        ),
    ]
    stages: Annotated[
        Mapping[StageName, Stage],
        Field(min_length=1, description="[stages.NAME] tables; a name is a-z and 0-9, at most 12 characters"),
    ]

    @model_validator(mode="after")
    def _stages_name_models(self) -> Self:
        for name, stage in self.stages.items():
            for model in stage.models:
                if model not in self.models:
                    raise refuse(f"stages.{name}.models", model, "one of " + ", ".join(self.models))
        return self

    def stage(self, name: str) -> Stage:
        """The stage called `name`; InvalidConfig lists those that exist."""
        if name not in self.stages:
            raise InvalidConfig("stage", name, "one of " + ", ".join(self.stages))
        return self.stages[name]

    def model(self, name: str) -> Model:
        """The model called `name`; InvalidConfig lists those that exist."""
        if name not in self.models:
            raise InvalidConfig("model", name, "one of " + ", ".join(self.models))
        return self.models[name]

    def models_of(self, stage: str) -> dict[str, Model]:
        """The models that `stage` deploys, by name, in the order that the stage lists them."""
        return {name: self.model(name) for name in self.stage(stage).models}


def load(path: Path | None = None) -> Config:
    """Read and check turnout.toml (`path`, else $TURNOUT_CONFIG, else the repository's)."""
    source = path or Path(os.environ.get("TURNOUT_CONFIG") or DEFAULT_PATH)
    try:
        text = source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidConfig("turnout.toml", str(source), f"a readable UTF-8 file ({error})") from error
    return parse(text)


def parse(text: str) -> Config:
    """The configuration that the TOML `text` states; InvalidConfig names the first wrong key."""
    try:
        return Config.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise InvalidConfig("turnout.toml", str(error), "valid TOML") from error
    except ValidationError as error:
        raise explain(error.errors()[0], Config) from error
