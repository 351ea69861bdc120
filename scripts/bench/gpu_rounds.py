"""One server under load, in rounds: capacity, latency at shares of it, and what happens above it.

A share of a capacity that was found a minute ago says little where the machine's own speed changes by half
within seconds. So each round finds the capacity and loads by it at once, and the median round is reported: a
round in which the machine was slower between the two does not count for the others.
"""

from __future__ import annotations

import base64
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from scripts.bench.gpu_load import Load
from scripts.bench.gpu_models import BenchModel
from scripts.bench.gpu_process import Running, cpu_seconds, family, own_mib, place
from scripts.bench.gpu_report import OVERLOAD

BINARY_TYPE = "application/vnd.sagemaker-triton.binary+json"
FULL_BATCHES = 4
"""In a closed loop: one on the device, one on its way there, two in the making."""
LOADED = 4
"""Times as many connections in an open loop, where a queue may grow."""
FRONT_BOUND = ("light",)
"""Its capacity is the front's own, which falls with its clients: it is found with all that the loads have."""
OVERLOAD_POOL = 950
"""Connections where more comes than can be answered: as many as the server takes, with some to spare."""
LONGER = {"medium": 2, "heavy": 4}  # times the seconds on a CPU, and seconds of warm-up: so few are in one
ROUNDS = {"light": 9, "wide": 1}
USUAL_ROUNDS = 3  # the slower models answer too few in a short round to have a p99
SHARES = (0.5, 0.8, 0.95)

Speed = Callable[[], float]
"""What the raw model does at this moment, items a second."""
Fire = Callable[[float, float], dict[str, Any]]
"""(requests a second, or 0 for a closed loop; deadline in ms, or 0) -> the generator's summary."""


def bench_server(
    server: Running,
    model: BenchModel,
    device: str,
    kind: str,
    seconds: float,
    deadline_ms: float,
    capacity_only: bool,
    raw: Speed,
) -> dict[str, Any]:
    """The medians over the rounds, and each round by itself; overload for turnout alone, which sheds it."""
    rounds = ROUNDS.get(model.name, USUAL_ROUNDS)
    a_time = seconds if rounds == 1 else 2 * seconds / rounds
    before = family(server.pid)
    warm = generator(server, model, device, kind, a_time, ())(0, 0)["answered_per_s"]
    fire = generator(server, model, device, kind, a_time, tuple(place(server.pid, before)))
    shares = () if capacity_only else SHARES
    overloaded = server.name == "turnout" and not capacity_only and warm > 0
    if overloaded:
        fire(2 * OVERLOAD * warm, deadline_ms)  # touches what memory the rounds will
    limit_ms = deadline_ms if overloaded else 0.0
    found = [one_round(server.pid, fire, shares, limit_ms, raw) for _ in range(rounds)]
    return {"server": server.name, "kind": kind, **medians(found), "rounds": found}


def generator(
    server: Running, model: BenchModel, device: str, kind: str, seconds: float, cores: tuple[int, ...]
) -> Fire:
    """Fires `seconds` of load at a time at a server, from `cores`."""
    content_type, body = body_of(model, kind)
    if server.name in ("mosec", "litserve") and kind == "binary":
        content_type, body = "application/octet-stream", model.example(1).numpy().tobytes()
    head = f"POST {server.path} HTTP/1.1\r\nHost: bench\r\nContent-Type: {content_type}\r\n"
    full = FULL_BATCHES * model.batch_on(device)
    loaded = min(LOADED * full, OVERLOAD_POOL)
    warm_s = LONGER.get(model.name, 0.5) if device == "cpu" else 0.5
    encoded = base64.b64encode(body).decode()

    def fire(rate: float, deadline_ms: float) -> dict[str, Any]:
        closed = loaded if model.name in FRONT_BOUND else full
        pool = closed if rate == 0 else (OVERLOAD_POOL if deadline_ms else loaded)
        return measure(
            Load(server.port, head, encoded, rate, seconds, pool, deadline_ms, warm_s, cores=cores)
        )

    return fire


def one_round(
    pid: int, fire: Fire, shares: Sequence[float], deadline_ms: float, raw: Speed
) -> dict[str, Any]:
    """Capacity, between two looks at the raw model, then the shares of it, then `OVERLOAD` times it with a
    deadline (none: no overload).
    """
    ceiling, cpu = raw(), cpu_seconds(pid)
    found = fire(0, 0)
    cpu, ceiling = cpu_seconds(pid) - cpu, (ceiling + raw()) / 2
    capacity = found["answered_per_s"]
    row: dict[str, Any] = {
        "capacity_per_s": capacity,
        "of_raw": capacity / ceiling,
        "cpu_us_per_request": cpu / max(1, found["answered"]) * 1e6,
        "generator_cpu_share": found["generator_cpu_share"],
        "statuses": found["statuses"],
    }
    for share in shares if capacity else ():
        result = fire(share * capacity, 0)
        row[f"p50_{share:.0%}"] = result["p50_ms"] or math.nan
        row[f"p99_{share:.0%}"] = result["p99_ms"] or math.nan
    if deadline_ms and capacity:
        before = own_mib(pid)
        result = fire(OVERLOAD * capacity, deadline_ms)
        row["overload"] = {
            "deadline_ms": deadline_ms,
            "goodput_share": result["goodput_per_s"] / capacity,
            "refused": result["refused"],
            "refusal_p50_ms": result["refusal_p50_ms"] or 0.0,
            "refusal_p99_ms": result["refusal_p99_ms"] or 0.0,
            "given_up": result["given_up"],
            "dropped": result["statuses"].get("504", 0),
            "send_lag_p99_ms": result["send_lag_p99_ms"],
            "generator_cpu_share": result["generator_cpu_share"],
            "own_mib_before": before,
            "own_mib": own_mib(pid),
        }
    return row


def medians(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Number by number; of what is not a number the last."""
    return {
        name: medians([each[name] for each in rounds])
        if name == "overload"
        else statistics.median(each[name] for each in rounds)
        if isinstance(value, int | float)
        else value
        for name, value in rounds[-1].items()
    }


def body_of(model: BenchModel, kind: str) -> tuple[str, bytes]:
    """(content type, body) of a request with one item."""
    row = model.example(1).numpy()
    tensor: dict[str, Any] = {"name": "input", "datatype": model.datatype, "shape": row.shape}
    if kind == "json":
        tensor["data"] = row.ravel().tolist()
        return "application/json", json.dumps({"inputs": [tensor]}).encode()
    tensor["parameters"] = {"binary_data_size": row.nbytes}
    header = json.dumps({"inputs": [tensor]}).encode()
    return f"{BINARY_TYPE};json-header-size={len(header)}", header + row.tobytes()


def measure(load: Load) -> dict[str, Any]:
    """Run the generator as a process of its own."""
    command = [sys.executable, "-m", "scripts.bench.gpu_load", "-"]
    done = subprocess.run(command, input=json.dumps(asdict(load)), capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result
