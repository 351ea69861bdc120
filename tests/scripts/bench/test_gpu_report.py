"""The targets of the GPU server's bench: what is judged, on what, and what the table says of it."""

from __future__ import annotations

from typing import Any

from scripts.bench.gpu_report import table, targets


def row(server: str, **numbers: Any) -> dict[str, Any]:
    usual = {"kind": "binary", "capacity_per_s": 100.0, "of_raw": 0.97, "cpu_us_per_request": 50.0}
    latencies = {f"{p}_{share}": 3.0 for p in ("p50", "p99") for share in ("50%", "80%", "95%")}
    return {"server": server, "rounds": [], "generator_cpu_share": 0.1, **usual, **latencies, **numbers}


def overload(goodput: float, refusal_ms: float, mib: float = 100.0) -> dict[str, Any]:
    found = {
        "deadline_ms": 20.0,
        "goodput_share": goodput,
        "refused": 9,
        "refusal_p50_ms": 0.1,
        "refusal_p99_ms": refusal_ms,
        "dropped": 0,
        "given_up": 4,
        "generator_cpu_share": 0.5,
        "send_lag_p99_ms": 0.1,
        "own_mib_before": 100.0,
        "own_mib": mib,
    }
    return {"overload": found, "rounds": [{"overload": found}]}


def result(model: str, batch_ms: float, *rows: dict[str, Any]) -> dict[str, Any]:
    raw = {"8": {"ms": batch_ms, "items_per_s": 8000 / batch_ms}}
    measured = {"model": model, "max_batch": 8, "raw": raw, "rows": rows, "machine_wait_p99_ms": [0.0, 0.0]}
    return {"machine": "m", "date": "d", "threads": 1, "max_wait_ms": 2.0, "models": [measured]}


def judged(document: dict[str, Any]) -> dict[str, bool]:
    return {target.text.partition(": ")[2]: target.met for target in targets(document)}


def test_a_server_that_keeps_every_target_is_told_so() -> None:
    good = result("medium", 10.0, row("turnout", **overload(0.95, 1.9)))
    assert judged(good) == {
        "saturation at least 95 % of raw": True,
        "p99 at 80 % at most 30.0 ms": True,
        "goodput at 150 % at least 90 %": True,
        "refusals at 150 % p99 at most 2 ms": True,
        "memory flat at 150 %": True,
    }


def test_each_target_is_missed_by_itself() -> None:
    bad = row("turnout", of_raw=0.94, **{"p99_80%": 31.0}, **overload(0.89, 2.1, mib=106.0))
    assert not any(judged(result("medium", 10.0, bad)).values())


def test_saturation_is_judged_where_a_batch_takes_2_ms_and_the_light_model_by_mosec() -> None:
    rows = (row("turnout", of_raw=0.1), row("mosec", capacity_per_s=101.0), row("floor", **{"p99_80%": 7.0}))
    light = result("light", 0.2, *rows)
    assert judged(light) == {"at least mosec's throughput": False, "p99 at 80 % at most 5.5 ms": True}
    assert "3.0 ms (a server without a model: 7.0 ms)" in table(light)
