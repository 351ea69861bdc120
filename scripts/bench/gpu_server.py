"""The GPU server against the raw batched model, mosec and LitServe, in one run on this machine.

    python -m scripts.bench.gpu_server [--models light,medium,heavy] [--seconds 5] [--json]

Capacity is found by a closed loop; latency at 50, 80 and 95 % of it, and goodput at 150 %, by open-loop
Poisson
arrivals timed from the intended send. The peers live in an environment of their own (.turnout/peers/gpu),
made on first use. The load generator shares the machine's cores with the servers, for all of them alike.
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
import os
import platform
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import typer

from handlers.errors import TurnoutError
from scripts.bench.gpu_load import Load
from scripts.bench.gpu_models import MODELS, BenchModel, write_release
from scripts.bench.gpu_raw import raw_curve

PEERS = Path(".turnout/peers/gpu")
HERE = Path(__file__).parent
MAX_WAIT_MS = 2.0
BINARY_TYPE = "application/vnd.sagemaker-triton.binary+json"
CONNECTIONS = {"light": 128, "medium": 32, "heavy": 32}


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


@contextmanager
def running(command: list[str], port: int, ready: str, environ: dict[str, str]) -> Iterator[int]:
    """A server process that answers `ready`; its whole process group is ended at the end."""
    with TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("w") as stream:
            process = subprocess.Popen(
                command, env={**os.environ, **environ}, stdout=stream, stderr=stream, start_new_session=True
            )
        try:
            end = time.monotonic() + 180
            while not _answers(f"http://127.0.0.1:{port}{ready}"):
                if process.poll() is not None or time.monotonic() > end:
                    raise TurnoutError(f"{command[0]} did not start:\n{log.read_text()[-2000:]}")
                time.sleep(0.2)
            yield process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # workers that outlive their parent


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310  # on this machine
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def measure(load: Load) -> dict[str, Any]:
    """Run the generator as a process of its own."""
    command = [sys.executable, "-m", "scripts.bench.gpu_load", "-"]
    done = subprocess.run(command, input=json.dumps(asdict(load)), capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


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


def resident_mib(pid: int) -> float:
    """Memory of a process, MiB (0 where /proc is missing)."""
    status = Path(f"/proc/{pid}/status")
    text = status.read_text() if status.exists() else ""
    return next((int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("VmRSS")), 0.0)


def cpu_seconds(root: int) -> float:
    """CPU time of a process and all its descendants so far, s (0 where /proc is missing)."""
    parents: dict[int, tuple[int, float]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rsplit(")", 1)[1].split()
            ticks = int(fields[11]) + int(fields[12])
            parents[int(path.parent.name)] = (int(fields[1]), ticks / os.sysconf("SC_CLK_TCK"))
    family, grown = {root}, True
    while grown:
        more = {pid for pid, (parent, _) in parents.items() if parent in family} - family
        family, grown = family | more, bool(more)
    return sum(parents[pid][1] for pid in family if pid in parents)


def bench_server(
    name: str,
    model: BenchModel,
    kind: str,
    port: int,
    pid: int,
    path: str,
    seconds: float,
    batch_ms: float,
    capacity_only: bool,
) -> dict[str, Any]:
    """Capacity, then latency below it; for turnout also overload with deadlines."""
    content_type, body = body_of(model, kind)
    if name != "turnout" and kind == "binary":
        content_type, body = "application/octet-stream", model.example(1).numpy().tobytes()
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: {content_type}\r\n"
    connections = CONNECTIONS[model.name]
    encoded = base64.b64encode(body).decode()

    def load(rate: float, deadline_ms: float = 0.0) -> dict[str, Any]:
        pool = connections if rate == 0 else 4 * connections
        return measure(Load(port, head, encoded, rate, seconds, pool, deadline_ms))

    load(0)  # warm
    cpu = cpu_seconds(pid)
    found = load(0)
    cpu_us = (cpu_seconds(pid) - cpu) / max(1, found["sent"]) * 1e6
    capacity = found["answered_per_s"]
    row: dict[str, Any] = {
        "server": name,
        "kind": kind,
        "capacity_per_s": capacity,
        "cpu_us_per_request": cpu_us,
    }
    row["statuses"] = found["statuses"]
    for share in () if capacity_only or not capacity else (0.5, 0.8, 0.95):
        result = load(share * capacity)
        row[f"p50_{share:.0%}"] = result["p50_ms"] or math.nan
        row[f"p99_{share:.0%}"] = result["p99_ms"] or math.nan
    if name == "turnout" and not capacity_only:
        before = resident_mib(pid)
        deadline = 4 * (batch_ms + MAX_WAIT_MS) + 10
        result = load(1.5 * capacity, deadline)
        row["overload"] = {
            "deadline_ms": deadline,
            "goodput_share": result["goodput_per_s"] / capacity,
            "refused": result["refused"],
            "refusal_p50_ms": result["refusal_p50_ms"],
            "refusal_p99_ms": result["refusal_p99_ms"],
            "statuses": result["statuses"],
            "rss_mib": [before, resident_mib(pid)],
        }
    return row


def bench_model(
    model: BenchModel, seconds: float, peers: Path | None, threads: int, capacity_only: bool
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
        program = str(release / "gpu/model.pt2")
        curve = raw_curve(program, model, threads)
        rows: list[dict[str, Any]] = []
        environ = {"BENCH_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
        orders = {
            "program": program,
            "datatype": model.datatype,
            "shape": model.shape,
            "max_batch": model.max_batch,
            "max_wait_ms": MAX_WAIT_MS,
        }
        for kind in ("json", "binary"):
            port = _free_port()
            own = {
                "TURNOUT_GPU_HOST": "127.0.0.1",
                "TURNOUT_GPU_PORT": str(port),
                "TURNOUT_GPU_MODEL_DIR": str(release),
                "TURNOUT_GPU_MAX_BATCH": str(model.max_batch),
                "TURNOUT_GPU_MAX_WAIT_MS": str(MAX_WAIT_MS),
                "TURNOUT_GPU_THREADS": str(threads),
            }
            batch_ms = curve[str(model.max_batch)]["ms"]
            with running(
                [sys.executable, "-m", "model_build.gpu_server"], port, "/ping", {**environ, **own}
            ) as pid:
                rows.append(
                    bench_server(
                        "turnout", model, kind, port, pid, "/invocations", seconds, batch_ms, capacity_only
                    )
                )
            print(f"[{model.name}] turnout {kind}: {rows[-1]}", file=sys.stderr)
            if peers is None:
                continue
            port = _free_port()
            command = [str(peers), str(HERE / "gpu_peers/mosec_app.py"), "--port", str(port)]
            peer_environ = {**environ, "BENCH_ORDERS": json.dumps({**orders, "kind": kind})}
            with running(command, port, "/", peer_environ) as pid:
                rows.append(
                    bench_server(
                        "mosec", model, kind, port, pid, "/inference", seconds, batch_ms, capacity_only
                    )
                )
            print(f"[{model.name}] mosec {kind}: {rows[-1]}", file=sys.stderr)
        if peers is not None:
            port = _free_port()
            command = [str(peers), str(HERE / "gpu_peers/litserve_app.py"), str(port)]
            peer_environ = {**environ, "BENCH_ORDERS": json.dumps(orders)}
            with running(command, port, "/health", peer_environ) as pid:
                rows.append(
                    bench_server(
                        "litserve", model, "json", port, pid, "/predict", seconds, batch_ms, capacity_only
                    )
                )
            print(f"[{model.name}] litserve: {rows[-1]}", file=sys.stderr)
    return {"model": model.name, "max_batch": model.max_batch, "raw": curve, "rows": rows}


def table(result: dict[str, Any]) -> str:
    """The result as text."""
    lines = [f"{result['machine']}, {result['threads']} PyTorch thread(s), max wait {MAX_WAIT_MS:g} ms"]
    for model in result["models"]:
        full = model["raw"][str(model["max_batch"])]
        lines.append(
            f"\n{model['model']}: raw batch of {model['max_batch']} {full['ms']:.2f} ms"
            f" = {full['items_per_s']:.0f}/s"
        )
        lines.append(
            f"{'':18}{'capacity/s':>11}{'of raw':>8}{'CPU us':>8}"
            + "".join(f"{s:>18}" for s in ("50 %", "80 %", "95 %"))
        )
        for row in model["rows"]:
            shares = "".join(
                f"{row.get(f'p50_{s}', math.nan):>9.1f}/{row.get(f'p99_{s}', math.nan):<8.1f}"
                for s in ("50%", "80%", "95%")
            )
            share = row["capacity_per_s"] / full["items_per_s"]
            lines.append(
                f"{row['server'] + ' ' + row['kind']:18}{row['capacity_per_s']:>11.0f}{share:>8.0%}"
                f"{row['cpu_us_per_request']:>8.0f}{shares}"
            )
            if "overload" in row:
                over = row["overload"]
                lines.append(
                    f"{'':18}at 150 %: goodput {over['goodput_share']:.0%} of capacity, refusals p50 "
                    f"{over['refusal_p50_ms'] or 0:.2f} p99 {over['refusal_p99_ms'] or 0:.2f} ms, "
                    f"front {over['rss_mib'][0]:.0f} -> {over['rss_mib'][1]:.0f} MiB"
                )
    return "\n".join(lines)


def main(
    models: str = "light,medium,heavy",
    seconds: float = 5.0,
    threads: int = 1,
    peers: bool = True,
    capacity_only: bool = False,
    as_json: bool = typer.Option(False, "--json"),
) -> None:
    """Measure and print the table (or one JSON document)."""
    unknown = [name for name in models.split(",") if name not in MODELS]
    if unknown:
        raise typer.BadParameter(f"models: {unknown} is not allowed; allowed: {', '.join(MODELS)}")
    python = peers_python() if peers else None
    result = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "threads": threads,
        "models": [
            bench_model(MODELS[name], seconds, python, threads, capacity_only) for name in models.split(",")
        ],
    }
    print(json.dumps(result) if as_json else table(result))


if __name__ == "__main__":
    typer.run(main)
