"""The least time that a device can need for a batch, whatever the program: counted work over measured rates.

Three things bound it: arithmetic, the device's memory (weights once a batch, inputs and outputs once; what
lies between layers is not counted, since a perfect fusion would never write it) and the bus that inputs and
outputs cross. The roofline model (Williams, Waterman and Patterson, 2009), with the bus as a third roof.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from scripts.bench.gpu_models import BenchModel


@dataclass(frozen=True, slots=True)
class Work:
    """What one item and one batch need at least.

    `flops`: floating-point operations of an item; `weights`: numbers that every batch reads;
    `item_bytes`: of an item's inputs and outputs, as they cross the bus.
    """

    flops: float
    weights: int
    item_bytes: int


@dataclass(frozen=True, slots=True)
class Rates:
    """What the device does a second: operations, bytes of memory (read plus written), bytes over the bus."""

    flops: float
    memory_bytes: float
    bus_bytes: float = math.inf


@dataclass(frozen=True, slots=True)
class Ceiling:
    """Items a second that no program passes, and the roof that says so."""

    items_per_s: float
    roof: str


def ceiling(work: Work, rates: Rates, items: int, weight_bytes: int) -> Ceiling:
    """The lowest roof over batches of `items`, weights kept at `weight_bytes` each."""
    seconds = {
        "arithmetic": items * work.flops / rates.flops,
        "memory": (work.weights * weight_bytes + items * work.item_bytes) / rates.memory_bytes,
        "bus": items * work.item_bytes / rates.bus_bytes,
    }
    roof = max(seconds, key=lambda name: seconds[name])
    return Ceiling(items / seconds[roof], roof)


def work_of(model: BenchModel) -> Work:
    """Counted on one pass on the CPU. An embedding is looked up and not read whole, so it is left out."""
    module, example = model.make().eval(), model.example(1)
    torch.backends.mha.set_fastpath_enabled(False)  # one fused call, whose work the counter does not know
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        output = module(example)
    torch.backends.mha.set_fastpath_enabled(True)
    looked_up = sum(m.weight.numel() for m in module.modules() if isinstance(m, torch.nn.Embedding))
    weights = sum(parameter.numel() for parameter in module.parameters()) - looked_up
    return Work(float(counter.get_total_flops()), weights, example.nbytes + output.nbytes)


def rates_of(device: torch.device, dtype: torch.dtype) -> Rates:
    """Timed on the device: a square product on random numbers in `dtype` (float32 may take TF32 units, as
    convolutions do), a large copy, and on CUDA a large copy from pinned memory.
    """
    cuda = device.type == "cuda"

    def best_s(call: Callable[[], object]) -> float:
        times = []
        for _ in range(8):
            begun = time.perf_counter()
            call()
            if cuda:
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - begun)
        return min(times)

    side = 8192 if cuda else 1024
    a = torch.rand(side, side, device=device).to(dtype)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if cuda else before)
    flops = 2 * side**3 / best_s(lambda: a @ a)
    torch.set_float32_matmul_precision(before)
    count = 1 << (30 if cuda else 27)
    there = torch.ones(count, dtype=torch.uint8, device=device)
    back = torch.empty_like(there)
    memory = 2 * count / best_s(lambda: back.copy_(there))
    if not cuda:
        return Rates(flops, memory)
    host = torch.ones(count >> 2, dtype=torch.uint8, pin_memory=True)
    bus_s = best_s(lambda: back[: host.numel()].copy_(host, non_blocking=True))
    return Rates(flops, memory, host.nbytes / bus_s)
