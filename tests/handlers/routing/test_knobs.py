"""Given what an owner turned, when it is read, then it holds in the snapshot, and nonsense is named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from handlers.errors import InvalidConfig
from handlers.routing.breaker import Breaker
from handlers.routing.knobs import Knobs
from handlers.routing.policy import decide
from handlers.routing.types import Local, Path

from .builders import request, snapshot


def test_a_shadow_share_marks_that_share_of_the_cpus_answers() -> None:
    made = snapshot(
        knobs=Knobs.parse({"shadow_share": 0.2, "explore_share": 0.0}), gpu_ready=1, policy="cpu_only"
    )
    shadows = [decide(request(draw=i / 5_000.0), made, Local(), 0.0).shadow for i in range(5_000)]
    assert sum(shadows) / 5_000 == pytest.approx(0.2, abs=0.02)


def test_nobody_is_shadowed_while_the_endpoint_sleeps() -> None:
    made = snapshot(knobs=Knobs.parse({"shadow_share": 1.0}), gpu_ready=0)
    assert not any(decide(request(draw=i / 500.0), made, Local(), 0.0).shadow for i in range(500))


def test_a_static_share_goes_to_the_gpu() -> None:
    made = snapshot(knobs=Knobs.parse({"static_gpu_share": 0.3}), gpu_ready=1, policy="static_split")
    paths = [decide(request(draw=i / 1_000.0), made, Local(), 0.0).path for i in range(1_000)]
    assert paths.count(Path.GPU) == 300


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("shadow_share", 1.1),
        ("explore_share", 0.5),
        ("breaker_window_s", 0),
        ("static_gpu_share", float("nan")),
        ("shadow_share", "much"),
        ("breaker_probes", 1.5),
        ("breaker_failure_share", 0),
        ("breaker_cooldown_s", -1),
        ("breaker_cooldown_max_s", 1),
        ("luck", 1),
    ],
)
def test_what_makes_no_sense_is_named(name: str, value: object) -> None:
    with pytest.raises(InvalidConfig, match=name):
        Knobs.parse({name: value})


def test_the_breaker_opens_cools_down_and_closes_as_turned() -> None:
    knobs = Knobs.parse({"breaker_min_calls": 5, "breaker_failure_share": 0.9, "breaker_probes": 1})
    knobs = replace(knobs, breaker_cooldown_s=7.0)
    breaker = Breaker()
    for _ in range(4):
        breaker = breaker.recorded(False, 0.0, knobs.breaker)
    assert breaker.closed
    breaker = breaker.recorded(False, 0.0, knobs.breaker)
    assert (breaker.allows(6.9), breaker.allows(7.1)) == (False, True)
    assert breaker.recorded(True, 7.1, knobs.breaker).closed
