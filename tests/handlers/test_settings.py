"""The environment is read strictly; a wrong variable stops init with its name."""

from __future__ import annotations

import pytest

from handlers.errors import InvalidConfig
from handlers.settings import Settings

GOOD = {
    "TURNOUT_MODEL": "digits",
    "TURNOUT_BUCKET": "b",
    "TURNOUT_POINTER": "/p",
    "TURNOUT_LATENCY_SLO_MS": "50",
    "TURNOUT_ECONOMICS": "{}",
}


def test_GIVEN_the_least_WHEN_read_THEN_the_defaults() -> None:
    settings = Settings.from_env(GOOD)

    assert (settings.role, settings.policy, settings.endpoint, settings.table) == (
        "colocated",
        "turnout",
        "",
        "",
    )
    assert settings.attainment == 0.99
    assert settings.log_share == 1.0


@pytest.mark.parametrize(
    ("memory_mb", "threads"), [("128", 1), ("1769", 1), ("3537", 1), ("3538", 2), ("10240", 5)]
)
def test_GIVEN_a_memory_size_WHEN_read_THEN_whole_vcpus_are_threads(memory_mb: str, threads: int) -> None:
    assert Settings.from_env(GOOD | {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": memory_mb}).threads == threads


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TURNOUT_MODEL", ""),
        ("TURNOUT_BUCKET", ""),
        ("TURNOUT_POINTER", ""),
        ("TURNOUT_ROLE", "king"),
        ("TURNOUT_POLICY", "guess"),
        ("TURNOUT_LATENCY_SLO_MS", "fast"),
        ("TURNOUT_LATENCY_SLO_MS", "0"),
        ("TURNOUT_LATENCY_SLO_MS", "nan"),
        ("TURNOUT_LATENCY_SLO_MS", "30001"),
        ("TURNOUT_ATTAINMENT", "1"),
        ("TURNOUT_ECONOMICS", "[]"),
        ("TURNOUT_ECONOMICS", "{"),
        ("TURNOUT_BUDGET", "7"),
        ("TURNOUT_LOG_SHARE", "2"),
    ],
)
def test_GIVEN_one_wrong_variable_WHEN_read_THEN_it_is_named(name: str, value: str) -> None:
    with pytest.raises(InvalidConfig, match=rf"{name}.*allowed"):
        Settings.from_env(GOOD | {name: value})


def test_GIVEN_a_front_without_a_model_function_WHEN_read_THEN_refused() -> None:
    with pytest.raises(InvalidConfig, match="TURNOUT_MODEL_FUNCTION"):
        Settings.from_env(GOOD | {"TURNOUT_ROLE": "front"})
