"""What the hosted function costs over what it cannot avoid: warm, over an echo handler that makes the bare
ONNX Runtime call; cold, over importing numpy and onnxruntime and opening the session.

All sides run in one go, in turns, in the same kind of process: `python -S` over the deployed package.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from handlers.errors import LocalCloudError
from scripts.bench.placement import Placement, placed
from scripts.local import package_store, payload
from scripts.local.deployed import Function
from scripts.local.function_host import Pool
from scripts.local.sandbox import InitFailed, Sandbox

ROUNDS = 20
CALLS_A_ROUND = 100
SINGLE = {"PYTHONDONTWRITEBYTECODE": "1", "OPENBLAS_NUM_THREADS": "1"}
CPU = {"path": "cpu", "latency_slo_ms": 1000}

ECHO = """
def handler(event, context):
    return {"statusCode": 200, "headers": {"content-type": "application/json"}, "body": event.get("body", "")}
"""

LEVELS = {"off": "ORT_DISABLE_ALL", "extended": "ORT_ENABLE_EXTENDED", "all": "ORT_ENABLE_ALL"}

OPEN = """
import json, os, sys
asked = json.loads(os.environ["MODEL"])
sys.path.append(asked["package"])
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads, options.inter_op_num_threads = asked["threads"], 1
options.log_severity_level = 3
options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, asked["level"])
session = onnxruntime.InferenceSession(asked["model"], options, ["CPUExecutionProvider"])
"""

BARE = OPEN + 'print("ready", flush=True)\n'

FEED = """
feed = {name: numpy.array(data, numpy.dtype(kind)).reshape(shape)
        for name, (kind, shape, data) in asked["feed"].items()}
wanted = [asked["output"]]
for _ in range(200):
    session.run(wanted, feed)
"""

FLOOR = (
    OPEN
    + FEED
    + ECHO
    + """
answer = handler
def handler(event, context):
    session.run(wanted, feed)
    return answer(event, context)
"""
)

RUN = (
    OPEN
    + FEED
    + """
import time
for line in sys.stdin:
    times = []
    for _ in range(int(line)):
        began = time.perf_counter()
        session.run(wanted, feed)
        times.append((time.perf_counter() - began) * 1000)
    print(json.dumps(times), flush=True)
"""
)


@dataclass(frozen=True, slots=True)
class Bench:
    """What is measured: a deployed function, its package, the release it serves, an event."""

    function: Function
    package: Path
    runtime: Path
    release: Path
    environment: Mapping[str, str]
    event: bytes
    scratch: Path

    def sandbox(self, function: Function | None = None, package: Path | None = None) -> Sandbox:
        log = self.scratch / "sandbox.log"
        return Sandbox(
            function or self.function, package or self.package, self.runtime, self.environment, log
        )

    def script(self, code: str, model: Mapping[str, Any]) -> subprocess.Popen[str]:
        """A bare script with the package, and nothing else, to import from."""
        return subprocess.Popen(
            [sys.executable, "-S", "-c", code],
            env={"MODEL": json.dumps(model), **SINGLE},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip


def model_settings(
    release: Path, package: Path, memory_mb: int, inputs: list[dict[str, Any]]
) -> dict[str, Any]:
    """The session's settings and one example, as the serving code would have them."""
    manifest = json.loads((release / "manifest.json").read_bytes())
    cpu = manifest["variants"]["cpu"]
    kinds = {"FP32": "float32", "INT64": "int64", "INT32": "int32", "FP64": "float64"}
    feed = {
        given["name"]: (kinds[given["datatype"]], given["shape"], given["data"])
        for given in inputs
        if given["datatype"] in kinds
    }
    return {
        "package": str(package),
        "model": str(release / cpu["file"]),
        "threads": max(1, memory_mb // 1769),
        "level": LEVELS[cpu["load_optimisation"]],
        "output": manifest["graph_output"]["name"],
        "feed": feed,
    }


def event(model: str, inputs: list[dict[str, Any]], parameters: Mapping[str, Any] = CPU) -> bytes:
    """An inference request as API Gateway hands it over; by default the CPU is forced, so no GPU is asked."""
    body = json.dumps({"inputs": inputs, "parameters": dict(parameters)}).encode()
    headers = [("content-type", "application/json"), ("host", "localhost")]
    request = payload.HttpRequest("POST", f"/v2/models/{model}/infer", "", headers, body, "127.0.0.1")
    route = payload.Route("ANY /v2/models/{proxy+}", "")
    api = payload.Api("bench", "bench", "$default", {}, [route])
    return json.dumps(
        payload.event(request, api, route, {"proxy": f"{model}/infer"}, "bench", datetime.now(UTC))
    ).encode()


async def warm(
    bench: Bench, settings: Mapping[str, Any], placement: Placement, say: Callable[[str], None]
) -> dict[str, float]:
    """p50 in ms of the hosted function, of two handlers hosted the same way, and of the bare model.

    `floor` runs the bare model and echoes, `echo` only echoes. `model` is the bare model in a loop, whose
    code and data stay in the processor's caches; between two requests they do not, so `floor` is more than
    `echo` and `model` together.
    """
    made = {"hosted": bench.sandbox}
    for name, code in (("floor", FLOOR), ("echo", ECHO)):
        folder = bench.scratch / name
        folder.mkdir(exist_ok=True)
        (folder / "index.py").write_text(code)
        environment = {"MODEL": json.dumps(settings), **SINGLE}
        peer = replace(bench.function, name=name, handler="index.handler", environment=environment)
        made[name] = partial(bench.sandbox, peer, folder)
    pools = {name: Pool(bench.function, as_coroutine(make), 1) for name, make in made.items()}
    times: dict[str, list[float]] = {name: [] for name in (*pools, "model", "overhead")}
    with placed(placement.functions, turns=placement.turns):
        model = bench.script(RUN, settings)
    with model:
        try:
            with placed(placement.functions, turns=placement.turns):
                first = {name: await call(pool, bench.event) for name, pool in pools.items()}
            check_answer(first["hosted"][1])
            with placed(placement.caller, turns=placement.turns):
                for round_ in range(ROUNDS + 1):
                    answers = {
                        name: [await call(pool, bench.event) for _ in range(CALLS_A_ROUND)]
                        for name, pool in pools.items()
                    }
                    if round_ == 0:  # the first warms everything up
                        continue
                    for name, found in answers.items():
                        times[name] += [ms for ms, _ in found]
                    times["overhead"] += [overhead_ms(answer) for _, answer in answers["hosted"]]
                    times["model"] += await asyncio.to_thread(run_model, model, CALLS_A_ROUND)
            say(f"warm, {placement.name}: {ROUNDS * CALLS_A_ROUND} calls of each")
        finally:
            await asyncio.gather(*(pool.kill() for pool in pools.values()))
            model.kill()
    return {name: statistics.median(found) for name, found in times.items()}


def as_coroutine(make: Callable[[], Sandbox]) -> Callable[[], Any]:
    async def made() -> Sandbox:
        return make()

    return made


async def call(pool: Pool, event_: bytes) -> tuple[float, bytes]:
    began = time.perf_counter()
    outcome = await pool.invoke(event_, "00000000-0000-0000-0000-000000000000")
    return (time.perf_counter() - began) * 1000, outcome.payload


def check_answer(answer: bytes) -> None:
    """Raises LocalCloudError unless it is a 200 served on the CPU."""
    found = json.loads(answer)
    if found.get("statusCode") != 200 or json.loads(found["body"])["parameters"]["path"] != "cpu":
        raise LocalCloudError(f"the function did not answer the benchmark's request: {answer[:500]!r}")


def overhead_ms(answer: bytes) -> float:
    """Time in the handler outside the model: `total` less `cpu` of its Server-Timing."""
    headers = {name.lower(): value for name, value in json.loads(answer)["headers"].items()}
    entries = dict(entry.strip().split(";dur=") for entry in headers["server-timing"].split(","))
    return float(entries["total"]) - float(entries["cpu"])


def run_model(model: subprocess.Popen[str], calls: int) -> list[float]:
    if model.stdin is None or model.stdout is None:
        raise LocalCloudError("the bare model's process has no pipes")
    model.stdin.write(f"{calls}\n")
    model.stdin.flush()
    line = model.stdout.readline()
    if not line:
        raise LocalCloudError("the bare model's process ended")
    found: list[float] = json.loads(line)
    return found


async def cold(
    bench: Bench, settings: Mapping[str, Any], starts: int, say: Callable[[str], None]
) -> dict[str, float]:
    """Median ms of the init phase and of the bare script up to its open session, process start included."""
    init, bare = [], []
    for round_ in range(starts + 1):
        sandbox = bench.sandbox()
        try:
            await sandbox.start()
        except InitFailed as failure:
            raise LocalCloudError(f"the function's init failed: {failure}") from None
        await sandbox.stop()
        opened_ms = await asyncio.to_thread(open_session, bench, settings)
        if round_:  # the first warms the file cache
            init.append(sandbox.init_ms)
            bare.append(opened_ms)
    say(f"cold: {starts} starts of each")
    return {"init": statistics.median(init), "bare": statistics.median(bare)}


def open_session(bench: Bench, settings: Mapping[str, Any]) -> float:
    began = time.perf_counter()
    with bench.script(BARE, settings) as process:
        ready = process.stdout.readline() if process.stdout else ""
        took_ms = (time.perf_counter() - began) * 1000
    if ready.strip() != "ready":
        raise LocalCloudError("the bare script could not open the session")
    return took_ms


def fetch_package(function: Function, cache: Path) -> Path:
    """The package that is deployed."""
    return package_store.fetch(function.code_url, function.code_sha256, cache)
