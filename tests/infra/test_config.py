from __future__ import annotations

import tomllib
from dataclasses import asdict
from pathlib import Path

import pytest
from pydantic import ValidationError

from handlers.errors import InvalidConfig
from handlers.routing.knobs import Knobs
from infra import config

SOURCE = config.DEFAULT_PATH.read_text()


def edited(before: str, after: str) -> str:
    """turnout.toml with the first `before` replaced; fails if the file no longer has it."""
    assert before in SOURCE
    return SOURCE.replace(before, after, 1)


def test_the_repositorys_own_file_is_valid_and_every_stage_has_digits_first():
    loaded = config.load()
    assert next(iter(loaded.models)) == "digits"
    assert {"local", "dev", "prod"} <= set(loaded.stages)
    assert all(next(iter(loaded.models_of(stage))) == "digits" for stage in loaded.stages)


def test_sections_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        config.load().models["digits"].memory_mb = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("before", "after", "field", "allowed"),
    [
        ('memory_mb = "auto"', 'memory_mb = "1 GB"', "models.digits.memory_mb", "MB from 128 to 10240"),
        ('memory_mb = "auto"', "memory_mb = 17690", "models.digits.memory_mb", "MB from 128 to 10240"),
        ("= 200", '= "200ms"', "models.digits.latency_slo_ms", "milliseconds from 1 to 29000"),
        ("= 200", "= -1", "models.digits.latency_slo_ms", "milliseconds from 1 to 29000"),
        ("latency_slo_ms", "latency_slo_s", "models.digits.latency_slo_ms", "milliseconds"),
        ('memory_mb = "auto"', "memory = 1", "models.digits.memory", "the keys are recipe, memory_mb"),
        ('"ml.g4dn.xlarge"', '"ml.g99.xlarge"', "models.digits.gpu.instance_type", "one of ml.g4dn.xlarge"),
        ('"ml.g4dn.xlarge"', '"ml.m5.xlarge"', "models.digits.gpu.instance_type", "one of ml.g4dn.xlarge"),
        (
            "missed",
            'kind = "classic"\nmissed',
            "models.digits.gpu.min_instances",
            "1 or more with kind classic",
        ),
        (
            "missed",
            "min_instances = 2\nmissed",
            "models.digits.gpu.max_instances",
            "at least min_instances (2)",
        ),
        ("attainment = 0.99", "attainment = 99", "models.digits.attainment", "from 0.5 to 0.9999"),
        ("attainment", 'topology = "both"\nattainment', "models.digits.topology", "colocated, split or auto"),
        ("attainment", 'policy = "best"\nattainment', "models.digits.policy", "turnout, cpu_only"),
        ("attainment", "budget = 3\nattainment", "models.digits.budget", "a table with usd and window"),
        ("attainment", "budget.usd = 0\nattainment", "models.digits.budget.usd", "USD above 0"),
        (
            "attainment",
            "training.max_wait_minutes = 9\nattainment",
            "training.max_wait_minutes",
            "at least max_run",
        ),
        (
            "attainment",
            "training.warm_pool_minutes = 5\nattainment",
            "training.warm_pool_minutes",
            "0 while spot",
        ),
        (
            "attainment",
            'training.schedule = "daily"\nattainment',
            "training.schedule",
            "EventBridge schedule",
        ),
        (
            "attainment",
            'training.instance_types = ["x"]\nattainment',
            "training.instance_types.0",
            "one of ml.",
        ),
        ("[models.mnist]", "[models.MNIST]", "models.MNIST", "a name is a-z"),
        ('models = ["digits"]', 'models = ["cats"]', "stages.local.models", "one of digits, mnist"),
        ("log_retention_days = 7", "log_retention_days = 8", "stages.local.log_retention_days", "1, 3, 5, 7"),
        ("monthly_limit_usd = 10\n", "", "stages.local.monthly_limit_usd", "USD a month above 0"),
        ("monthly_limit_usd = 10\n", "monthly_limit_usd = 0\n", "stages.local.monthly_limit_usd", "above 0"),
        ("production = false\n", "", "stages.local.auth", "iam or jwt while production is true"),
        ('auth = "none"', 'auth = "jwt"', "stages.local.jwt", "issuer and audience"),
        ("[stages.dev]", '[stages.dev]\napi = "soap"', "stages.dev.api", "http or rest"),
        (
            "[stages.dev]",
            '[stages.dev]\napi = "rest"\nauth = "jwt"\njwt = {issuer = "https://a.b", audience = ["c"]}',
            "stages.dev.auth",
            "a REST API has no JWT authorizer",
        ),
        (
            "[stages.dev]",
            '[stages.dev]\napi = "rest"\ncors_origins = ["https://a.b"]',
            "stages.dev.cors_origins",
            "answers no CORS",
        ),
        ("attainment", "min_agreement = 95\nattainment", "models.digits.min_agreement", "from 0 to 1"),
        ('account = "123456789012"', "account = 123456789012", "stages.local.account", "12 digits"),
        ("[stages.dev]", "[stages.Dev]", "stages.Dev", "a name is a-z"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_what_is_allowed(before, after, field, allowed):
    with pytest.raises(InvalidConfig) as caught:
        config.parse(edited(before, after))
    assert field in caught.value.field
    assert allowed in caught.value.allowed
    assert "pydantic" not in str(caught.value)


@pytest.mark.parametrize("topology", ["split", "auto"])
def test_a_front_needs_a_gpu(topology):
    text = SOURCE.replace('recipe = "speech"', f'recipe = "speech"\ntopology = "{topology}"')
    with pytest.raises(InvalidConfig, match=r"models\.speech\.topology: .* colocated, unless"):
        config.parse(text)


def test_a_gpu_policy_needs_a_gpu():
    text = SOURCE.replace('recipe = "speech"', 'recipe = "speech"\npolicy = "gpu_only"')
    with pytest.raises(InvalidConfig, match=r"models\.speech\.policy"):
        config.parse(text)


def test_shadows_need_a_gpu():
    text = SOURCE.replace('recipe = "speech"', 'recipe = "speech"\nrouting.shadow_share = 0.1')
    with pytest.raises(InvalidConfig, match=r"models\.speech\.routing\.shadow_share: .* 0 without"):
        config.parse(text)


def test_a_file_that_is_not_toml():
    with pytest.raises(InvalidConfig, match="valid TOML"):
        config.parse("[models")


def test_a_missing_file(tmp_path: Path):
    with pytest.raises(InvalidConfig, match="a readable UTF-8 file"):
        config.load(tmp_path / "none.toml")


def test_the_environment_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    other = tmp_path / "other.toml"
    other.write_text(edited("monthly_limit_usd = 10\n", "monthly_limit_usd = 12.5\n"))
    monkeypatch.setenv("TURNOUT_CONFIG", str(other))
    assert config.load().stage("local").monthly_limit_usd == 12.5


def test_unknown_stage_and_model_list_what_exists():
    loaded = config.load()
    with pytest.raises(InvalidConfig, match="one of local, dev, prod"):
        loaded.stage("live")
    with pytest.raises(InvalidConfig, match="one of digits"):
        loaded.model("cats")


def test_an_empty_file_says_what_is_missing():
    with pytest.raises(InvalidConfig, match=r"turnout\.toml models"):
        config.parse("")
    assert "models" in tomllib.loads(SOURCE)


def test_the_routers_defaults_are_those_of_the_configuration():
    assert config.Routing().model_dump() == asdict(Knobs())


def test_a_breaker_cannot_cool_down_for_less_than_its_least():
    with pytest.raises(ValidationError, match="breaker_cooldown_max_s"):
        config.Routing(breaker_cooldown_s=10.0, breaker_cooldown_max_s=5.0)
