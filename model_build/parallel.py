"""Data-parallel training under torchrun: the same batches as one process, divided among the ranks.

Each rank takes its share of every batch, and its loss counts by that share, so the averaged gradient is
the one that a single process would have had (batch normalisation sees only its rank's share).
Without torchrun there is one rank and every function here is trivial.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn

T = TypeVar("T")


def rank() -> int:
    """This process's number among the ranks, 0 when alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def ranks() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def device() -> torch.device:
    """This rank's accelerator, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def has_bf16(where: torch.device) -> bool:
    """True where bfloat16 multiplies run in hardware; emulated ones are slower than float32."""
    if where.type == "cuda":
        supported: bool = torch.cuda.is_bf16_supported(including_emulation=False)
        return supported
    return bool(torch.cpu._is_avx512_bf16_supported())


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """PyTorch on `count` CPU threads (None: as it is) meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def group() -> Iterator[None]:
    """Joins the ranks that torchrun started (gloo on CPU, NCCL on GPU); nothing without torchrun."""
    if "WORLD_SIZE" not in os.environ or os.environ["WORLD_SIZE"] == "1":
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(device())
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def wrap(network: nn.Module) -> nn.Module:
    """The network with gradients averaged over the ranks."""
    return nn.parallel.DistributedDataParallel(network) if dist.is_initialized() else network


def share(batch: torch.Tensor) -> torch.Tensor:
    """This rank's rows of a batch; never empty, so that every rank takes part in every step."""
    mine = batch[rank() :: ranks()]
    return mine if len(mine) else batch[:1]


def weight(mine: int, batch: int) -> float:
    """By what a rank's mean loss is multiplied so that the average over ranks is the batch's mean."""
    return mine * ranks() / batch if ranks() > 1 else 1.0


def from_first(make: Callable[[], T]) -> T:
    """What `make` returns on the first rank, on every rank."""
    if not dist.is_initialized():
        return make()
    box = [make() if rank() == 0 else None]
    dist.broadcast_object_list(box, src=0)
    value: T = box[0]  # type: ignore[assignment]  # every rank now holds the first rank's value
    return value
