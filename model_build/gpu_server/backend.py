"""The model on its device: staging buffers, one forward pass per batch, warm-up over the buckets.

`submit` starts a batch and `Handle.output()` waits for it, so that on CUDA the copy of the next batch
overlaps the compute of this one; on CPU `submit` has already computed when it returns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch.export.passes import move_to_device_pass

from model_build.gpu_server import program
from model_build.gpu_server.spec import GraphSpec

Array = npt.NDArray[Any]
Forward = Callable[..., torch.Tensor]


class Handle(Protocol):
    """A batch that was submitted."""

    def output(self) -> Array:
        """Wait for the answer: [items, …], the caller's to keep until the next-but-one batch. Raises what the
        model raised.
        """


class Backend(Protocol):
    """One model on one device. `at_once`: batches worth having under way; 2 where one can be copied while
    another computes, 1 where `submit` computes and a second would only hold up the first one's answer.
    """

    at_once: int

    @property
    def device(self) -> str:
        """The device's name, for reports."""

    def stage(self) -> Sequence[Array]:
        """One writable array per input, [max_batch, row_bytes] uint8: rows are gathered into it."""

    def submit(self, items: int, bucket: int) -> Handle:
        """Run the first `items` rows of the staged inputs, padded to `bucket`."""


def load_forward(path: Path, device: torch.device, engine: str, precision: str) -> Forward:
    """The program as a callable on `device`.

    `engine`: eager, compile (torch.compile) or aot (an ahead-of-time package made at load for this device).
    `precision`: `release` runs it as exported; `tf32` too, but lets products of float32 take the tensor
    cores (10 bits of mantissa; for the whole process; PyTorch lets convolutions do so anyway); bf16 and fp16
    run under autocast. Raises ReleaseError when the file is no exported program.
    """
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    exported = program.load(path)
    if engine == "aot":
        from model_build.gpu_server.ahead_of_time import compile_program

        compiled: Forward = compile_program(exported, device, precision)
        return compiled
    if device.type != "cpu":
        exported = move_to_device_pass(exported, str(device))
    if engine == "compile":
        torch._dynamo.config.recompile_limit = 64  # one specialised program for each batch size
        forward: Forward = torch.compile(exported.module(), dynamic=False)
    else:
        forward = _checked_once(exported.module(check_guards=False))
    if precision in ("release", "tf32"):
        return forward
    dtype = torch.bfloat16 if precision == "bf16" else torch.float16

    def cast(*tensors: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, dtype):
            return forward(*tensors)

    return cast


def _checked_once(module: torch.fx.GraphModule) -> Forward:
    """`module`, whose checks of what it is given run once for each batch size, in the warm-up.

    The server has checked every request by then; in service the checks alone would take 0.09 ms a batch.
    """
    checked: set[int] = set()

    def forward(*tensors: torch.Tensor) -> torch.Tensor:
        size = len(tensors[0])
        run: Forward = module.forward if size in checked else module
        output = run(*tensors)
        checked.add(size)
        return output

    return forward


@dataclass(frozen=True, slots=True)
class _Done:
    array: Array

    def output(self) -> Array:
        return self.array


class CpuBackend:
    """A batch computed on the spot by PyTorch on CPU; also the reference for the others."""

    at_once = 1

    def __init__(self, forward: Forward, spec: GraphSpec, max_batch: int) -> None:
        self._forward = forward
        self._spec = spec
        self._bytes = [np.zeros((max_batch, tensor.row_bytes), np.uint8) for tensor in spec.inputs]
        self._tensors = [_typed(rows, tensor) for rows, tensor in zip(self._bytes, spec.inputs, strict=True)]

    @property
    def device(self) -> str:
        """The device's name, for reports."""
        return "cpu"

    def stage(self) -> Sequence[Array]:
        """The one set of staging arrays: a batch has left it when `submit` returns."""
        return self._bytes

    def submit(self, items: int, bucket: int) -> Handle:
        """Compute now."""
        with torch.inference_mode():
            output = self._forward(*(tensor[:bucket] for tensor in self._tensors))
        return _Done(as_rows(output, items, self._spec))


def as_rows(output: torch.Tensor, items: int, spec: GraphSpec) -> Array:
    """The first `items` rows of the graph's output, on the host, in the manifest's dtype.

    Raises TypeError when the graph answered something of another shape than the manifest states.
    """
    if not isinstance(output, torch.Tensor) or tuple(output.shape[1:]) != spec.output.shape:
        found = list(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise TypeError(f"the graph answered {found}, the manifest states {spec.output.allowed}")
    rows: Array = output[:items].to("cpu", torch.from_numpy(np.zeros(0, spec.output.dtype)).dtype).numpy()
    return rows


def _typed(rows: Array, tensor: Any) -> torch.Tensor:
    typed = rows.view(tensor.dtype).reshape(len(rows), *tensor.shape)
    return torch.from_numpy(typed)


def warm_up(
    backend: Backend, sizes: Iterable[int], repeats: int = 5, budget_s: float = 10.0
) -> dict[int, float]:
    """Run every size, smallest first, and return the fastest-half mean time of each in ms.

    The first runs of a size (compiling, capturing, allocating) are not counted. A size that is out of memory
    ends the curve before it. Raises what else the model raises.
    """
    curve: dict[int, float] = {}
    for size in sizes:
        try:
            for _ in range(2):  # a backend with two sets of buffers prepares each
                for rows in backend.stage():
                    rows[:size] = 0
                backend.submit(size, size).output()
        except Exception as error:
            if curve and out_of_memory(error):
                return curve  # the sizes that fit are served
            raise
        times: list[float] = []
        started = time.perf_counter()
        while len(times) < repeats and (not times or time.perf_counter() - started < budget_s):
            begun = time.perf_counter()
            backend.submit(size, size).output()
            times.append((time.perf_counter() - begun) * 1000)
        fastest = sorted(times)[: max(1, len(times) // 2)]
        curve[size] = sum(fastest) / len(fastest)
    return curve


def out_of_memory(error: Exception) -> bool:
    """Whether the device (or the host) had not enough memory."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def choose(
    path: Path, spec: GraphSpec, device: str, engine: str, precision: str, max_batch: int, **switches: bool
) -> Backend:
    """The backend for `device` (auto takes CUDA where there is one; `cuda:1` is the second GPU)."""
    name = device if device != "auto" else ("cuda:0" if torch.cuda.is_available() else "cpu")
    target = torch.device(name)
    forward = load_forward(path, target, engine, precision)
    if target.type == "cpu":
        return CpuBackend(forward, spec, max_batch)
    from model_build.gpu_server.cuda import CudaBackend

    return CudaBackend(forward, spec, max_batch, target, **switches)
