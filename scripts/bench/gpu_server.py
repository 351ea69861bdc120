"""The GPU server against the raw batched model, mosec and LitServe, in one run on this machine.

    python -m scripts.bench.gpu_server [--models light,medium,heavy,wide] [--kinds json,binary]
        [--device cpu|cuda] [--json]

Capacity is found by a closed loop; latency at 50, 80 and 95 % of it, and goodput at 150 %, by open-loop
Poisson arrivals timed from the intended send, in rounds of which the table has the medians. The floor is a
server that reads the same bodies and answers a constant. The peers live in an environment of their own
(.turnout/peers/gpu), made on first use. A server's busiest process has a core of its own; its others and the
load generator share the rest, for all servers alike. The generator's own share of a core is in the table
(below 100 % it was not the bottleneck).
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import typer

from scripts.bench.gpu_models import MODELS, BenchModel, write_release
from scripts.bench.gpu_process import Command, free_port, running
from scripts.bench.gpu_raw import raw_model
from scripts.bench.gpu_report import table
from scripts.bench.gpu_rounds import FRONT_BOUND, LONGER, bench_server
from scripts.bench.pauses import machine_wait_ms

PEERS = Path(".turnout/peers/gpu")
HERE = Path(__file__).parent
MAX_WAIT_MS = 2.0
RAW_S = 1.0


def peers_python() -> Path | None:
    """The peers' interpreter: made on first use, sees this environment's PyTorch; None where it cannot be."""
    python = PEERS / "bin/python"
    if not python.exists():
        print("[peers] mosec and LitServe into an environment of their own", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(PEERS)], check=True)
        done = subprocess.run(
            [str(python), "-m", "pip", "install", "-q", "mosec==0.9.8", "litserve==0.2.19"], check=False
        )
        if done.returncode:
            return None
    here = next(path for path in sys.path if path.endswith("site-packages"))
    next(PEERS.glob("lib/python*/site-packages")).joinpath("turnout.pth").write_text(here + "\n")
    return python


def bench_model(
    model: BenchModel,
    device: str,
    kinds: Sequence[str],
    seconds: float,
    peers: Path | None,
    threads: int,
    capacity_only: bool,
) -> dict[str, Any]:
    """All servers with one model."""
    with TemporaryDirectory() as folder:
        release = Path(folder) / "release"
        write_release(
            release,
            model.make(),
            model.example(2),
            datatype=model.datatype,
            classes=model.classes,
            model=model.name,
        )
        sizes, waited_ms = (1, model.batch_on(device)), machine_wait_ms()
        rows: list[dict[str, Any]] = []
        with raw_model(str(release / "gpu/model.pt2"), model, device, threads) as raw:
            curves = [{str(size): raw(size, RAW_S) for size in sizes}]
            deadline_ms = 4 * (curves[0][str(sizes[-1])]["ms"] + MAX_WAIT_MS) + 10
            for kind in kinds:
                for command in commands(model, device, kind, release, peers, threads):
                    with running(command) as server:
                        bench = partial(bench_server, server, model, device, kind, seconds, deadline_ms)
                        rows.append(bench(capacity_only, lambda: raw(sizes[-1], RAW_S)["items_per_s"]))
                    print(f"[{model.name}] {rows[-1]}", file=sys.stderr)
            curves.append({str(size): raw(size, RAW_S) for size in sizes})
    return {
        "model": model.name,
        "max_batch": model.batch_on(device),
        "raw": {
            size: {name: fmean(each[size][name] for each in curves) for name in ("ms", "items_per_s")}
            for size in curves[0]
        },
        "rows": rows,
        "machine_wait_p99_ms": [waited_ms, machine_wait_ms()],
    }


def commands(
    model: BenchModel, device: str, kind: str, release: Path, peers: Path | None, threads: int
) -> Iterator[Command]:
    """This server, mosec and (JSON only: it reads nothing else) LitServe, with the same model and limits; the
    floor where the front is the limit.
    """
    environ = {"BENCH_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    port = free_port()
    own = {
        "TURNOUT_GPU_HOST": "127.0.0.1",
        "TURNOUT_GPU_PORT": str(port),
        "TURNOUT_GPU_MODEL_DIR": str(release),
        "TURNOUT_GPU_DEVICE": device,
        "TURNOUT_GPU_MAX_BATCH": str(model.batch_on(device)),
        "TURNOUT_GPU_MAX_WAIT_MS": str(MAX_WAIT_MS),
        "TURNOUT_GPU_THREADS": str(threads),
    }
    module = [sys.executable, "-m", "model_build.gpu_server"]
    yield Command("turnout", module, port, "/ping", "/invocations", {**environ, **own})
    if model.name in FRONT_BOUND:
        port = free_port()
        floor = [sys.executable, str(HERE / "gpu_peers/floor_app.py"), str(port)]
        yield Command("floor", floor, port, "/", "/", environ)
    if peers is None:
        return
    orders = {
        "program": str(release / "gpu/model.pt2"),
        "datatype": model.datatype,
        "shape": model.shape,
        "device": device,
        "max_batch": model.batch_on(device),
        "max_wait_ms": MAX_WAIT_MS,
        "kind": kind,
    }
    environ["BENCH_ORDERS"] = json.dumps(orders)
    port = free_port()
    mosec = [str(peers), str(HERE / "gpu_peers/mosec_app.py"), "--port", str(port), "--timeout", "60000"]
    yield Command("mosec", mosec, port, "/", "/inference", environ)
    if kind == "json":
        port = free_port()
        litserve = [str(peers), str(HERE / "gpu_peers/litserve_app.py"), str(port)]
        yield Command("litserve", litserve, port, "/health", "/predict", environ)


def main(
    models: str = "light,medium,heavy,wide",
    kinds: str = "json,binary",
    device: str = "cpu",
    seconds: float = 5.0,
    threads: int = 1,
    peers: bool = True,
    capacity_only: bool = False,
    as_json: bool = typer.Option(False, "--json"),
) -> None:
    """Measure and print the table and the targets (or one JSON document)."""
    for option, value, allowed in (
        ("models", models, tuple(MODELS)),
        ("kinds", kinds, ("json", "binary")),
        ("device", device, ("cpu", "cuda")),
    ):
        unknown = [name for name in value.split(",") if name not in allowed]
        if unknown:
            raise typer.BadParameter(f"{option}: {unknown} is not allowed; allowed: {', '.join(allowed)}")
    python = peers_python() if peers else None
    measured = [
        bench_model(
            MODELS[name],
            device,
            kinds.split(","),
            seconds * (LONGER.get(name, 1) if device == "cpu" else 1),
            python,
            threads,
            capacity_only or name == "wide",
        )
        for name in models.split(",")
    ]
    result = {
        "machine": f"{processor()}, {os.cpu_count()} cores" + (f", {card()}" if device == "cuda" else ""),
        "date": datetime.now(UTC).date().isoformat(),
        "threads": threads,
        "max_wait_ms": MAX_WAIT_MS,
        "models": measured,
    }
    print(json.dumps(result) if as_json else table(result))


def card() -> str:
    """The GPU's name. Raises BadParameter where there is none."""
    import torch

    if not torch.cuda.is_available():
        raise typer.BadParameter(
            "device: 'cuda' is not here (torch.cuda.is_available() is false); allowed: cpu"
        )
    return str(torch.cuda.get_device_name())


def processor() -> str:
    """The processor's name, or its architecture where the system does not say."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


if __name__ == "__main__":
    typer.run(main)
