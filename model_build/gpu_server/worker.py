"""The process that owns one device: gathers batches from shared memory, runs them, writes the answers back.

Messages are JSON over a socket, a few hundred bytes a batch; tensors travel only through the arena.
    front -> worker   {"batch": id, "items": n, "out": byte offset, "parts": [[count, offset by input…], …]}
    worker -> front   {"ready": {"device", "curve", "load_s"}}  or  {"failed": reason}   once
                      {"batch": id, "ms": total, "model_ms": …, "errors": [[row, text]…], "nonfinite": [row…],
                       "max_batch": n or null}
A model that raises costs only the items that make it raise: the batch is run again in halves, at most
`MAX_RUNS` times. When nothing in a batch succeeds, a warm-up input tells whether the model or the input is to
blame; a model that fails that too ends the process (a CUDA context does not survive an assertion), and the
front starts another. Out of memory halves the largest batch.
"""

from __future__ import annotations

import socket
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from handlers.errors import TurnoutError
from model_build.gpu_server import arena
from model_build.gpu_server.backend import Backend, Handle, choose, out_of_memory, warm_up
from model_build.gpu_server.batching import Curve
from model_build.gpu_server.spec import GraphSpec

MAX_RUNS = 24


@dataclass(frozen=True, slots=True)
class Orders:
    """What a worker is started with."""

    path: str
    device: str
    engine: str
    precision: str
    sizes: tuple[int, ...]
    padded: bool
    threads: int
    pinned: bool
    cuda_graphs: bool
    overlap: bool

    def to_json(self) -> str:
        """For the command line."""
        return orjson.dumps(asdict(self)).decode()


@dataclass(slots=True)
class Outcome:
    """What became of one batch: an output row or an error text per item."""

    errors: dict[int, str] = field(default_factory=dict)
    max_batch: int | None = None
    runs: int = 0


class Worker:
    """Runs batches one after the other on `backend`; `memory` is the arena's."""

    def __init__(self, backend: Backend, spec: GraphSpec, curve: Curve, memory: memoryview) -> None:
        self._backend = backend
        self._spec = spec
        self._curve = curve
        self._memory = memory
        self._bytes = np.frombuffer(memory, np.uint8)
        self._row_bytes = [tensor.row_bytes for tensor in spec.inputs]

    def gather(self, parts: Sequence[Sequence[int]]) -> None:
        """Copy each part's rows from the arena into the staging arrays: the one copy before the device."""
        staged = [rows.reshape(-1).data for rows in self._backend.stage()]
        memory, row = self._memory, 0
        for count, *offsets in parts:
            for rows, offset, size in zip(staged, offsets, self._row_bytes, strict=True):
                rows[row * size : (row + count) * size] = memory[offset : offset + count * size]
            row += count

    def start(self, message: dict[str, Any]) -> Handle | Exception:
        """Gather and submit one batch; an exception of the model is kept for `finish`."""
        self.gather(message["parts"])
        items = message["items"]
        try:
            return self._backend.submit(items, self._curve.bucket(items))
        except Exception as error:  # whatever the model raises is isolated in `finish`
            return error

    def finish(self, message: dict[str, Any], handle: Handle | Exception) -> dict[str, Any]:
        """Wait for a batch, isolate what failed in it, write the outputs, and say what became of it."""
        items: int = message["items"]
        out = self._output(message["out"], items)
        outcome = Outcome()
        try:
            if isinstance(handle, Exception):
                raise handle
            out[:] = handle.output()
        except Exception as error:  # as in `start`
            self._isolate(_single_parts(message["parts"], self._spec), 0, out, error, outcome)
            if len(outcome.errors) == items:
                self._prove_sound()
        finite = (
            np.isfinite(out.reshape(items, -1)).all(axis=1) if out.dtype.kind == "f" else np.ones(items, bool)
        )
        bad = [int(row) for row in np.flatnonzero(~finite) if int(row) not in outcome.errors]
        errors = sorted(outcome.errors.items())
        return {"batch": message["batch"], "errors": errors, "nonfinite": bad, "max_batch": outcome.max_batch}

    def _isolate(
        self, parts: list[list[int]], first: int, out: npt.NDArray[Any], error: Exception, outcome: Outcome
    ) -> None:
        """Run the two halves of a batch that failed with `error`; `parts` are single items from row
        `first`.
        """
        if out_of_memory(error):
            outcome.max_batch = min(outcome.max_batch or len(parts), max(1, len(parts) // 2))
        if len(parts) == 1 or outcome.runs >= MAX_RUNS:
            text = (
                f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"[
                    :300
                ]
            )
            outcome.errors.update({first + row: text for row in range(len(parts))})
            out[first : first + len(parts)] = 0
            return
        middle = len(parts) // 2
        for start, half in ((0, parts[:middle]), (middle, parts[middle:])):
            outcome.runs += 1
            self.gather(half)
            try:
                handle = self._backend.submit(len(half), self._curve.bucket(len(half)))
                out[first + start : first + start + len(half)] = handle.output()
            except Exception as again:  # as in `start`
                self._isolate(half, first + start, out, again, outcome)

    def _prove_sound(self) -> None:
        """Raises when the model no longer answers the warm-up input: the process must be replaced."""
        warm_up(self._backend, self._curve.sizes[:1], repeats=1)

    def _output(self, offset: int, items: int) -> npt.NDArray[Any]:
        tensor = self._spec.output
        rows = self._bytes[offset : offset + items * tensor.row_bytes]
        return rows.view(tensor.dtype).reshape(items, *tensor.shape)


def _single_parts(parts: Sequence[Sequence[int]], spec: GraphSpec) -> list[list[int]]:
    return [
        [1, *(offset + row * tensor.row_bytes for offset, tensor in zip(offsets, spec.inputs, strict=True))]
        for count, *offsets in parts
        for row in range(count)
    ]


def serve(worker: Worker, link: Connection, at_once: int) -> None:
    """Run batches until the front closes the link, `at_once` under way: of two, one computes and one is
    copied.
    """
    under_way: deque[tuple[dict[str, Any], Handle | Exception, float]] = deque()
    free_since = 0.0
    while True:
        if len(under_way) < at_once and (not under_way or link.poll(0)):
            try:
                message = orjson.loads(link.recv_bytes())
            except (EOFError, ConnectionResetError):
                return
            received = time.perf_counter()
            under_way.append((message, worker.start(message), received))
            continue
        message, handle, received = under_way.popleft()
        reply = worker.finish(message, handle)
        now = time.perf_counter()
        reply["ms"] = (now - max(received, free_since)) * 1000
        free_since = now
        link.send_bytes(orjson.dumps(reply))


def start_up(orders: Orders, spec: GraphSpec) -> tuple[Backend, Curve, dict[str, Any]]:
    """Load, warm up every size, and say what was found."""
    import torch

    torch.set_num_threads(orders.threads)
    begun = time.perf_counter()
    backend = choose(
        Path(orders.path),
        spec,
        orders.device,
        orders.engine,
        orders.precision,
        max(orders.sizes),
        pinned=orders.pinned,
        cuda_graphs=orders.cuda_graphs,
    )
    loaded = time.perf_counter()
    curve = warm_up(backend, orders.sizes)
    ready = {
        "device": backend.device,
        "curve": {str(size): ms for size, ms in curve.items()},
        "load_s": loaded - begun,
        "warm_up_s": time.perf_counter() - loaded,
    }
    return backend, Curve(tuple(curve), tuple(curve.values()), orders.padded), ready


def main(orders_json: str, spec_json: str, socket_fd: int, arena_fd: int) -> int:
    """Entry of the worker process; the exit code is 0 when the front closed the link, 1 when
    loading failed.
    """
    from model_build.gpu_server.spec import from_json

    link = Connection(socket.socket(fileno=socket_fd).detach())
    try:
        values = orjson.loads(orders_json)
        orders = Orders(**{**values, "sizes": tuple(values["sizes"])})
        spec = from_json(spec_json)
        backend, curve, ready = start_up(orders, spec)
    except Exception as error:  # every reason for a failed start is the front's to show in /ping
        known = isinstance(error, TurnoutError)
        link.send_bytes(orjson.dumps({"failed": str(error) if known else f"{type(error).__name__}: {error}"}))
        return 1
    link.send_bytes(orjson.dumps({"ready": ready}))
    at_once = backend.at_once if orders.overlap else 1
    serve(Worker(backend, spec, curve, arena.open_shared(arena_fd)), link, at_once)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
