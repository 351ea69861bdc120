"""The model on a CUDA device: pinned staging, copies that overlap compute, one captured graph per bucket.

Two sets of buffers alternate. While the graph of one set runs on the compute stream, the other set is
filled on the host and copied on the copy stream; the events between the streams say when each may go on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from model_build.gpu_server.spec import NUMPY_DTYPES, GraphSpec

Array = npt.NDArray[Any]
WARM_RUNS = 3
# PyTorch has left these two constructors without types.
_Stream: Callable[[torch.device], torch.cuda.Stream] = torch.cuda.Stream
_Event: Callable[[], torch.cuda.Event] = torch.cuda.Event


@dataclass(slots=True)
class _Set:
    """Staging on the host, the same on the device, the answer's place on the host, graphs by bucket."""

    host: list[torch.Tensor]
    rows: list[Array]
    device: list[torch.Tensor]
    answer: torch.Tensor
    copied: torch.cuda.Event
    done: torch.cuda.Event
    graphs: dict[int, tuple[torch.cuda.CUDAGraph, torch.Tensor]] = field(default_factory=dict)
    unread: _Running | None = None


@dataclass(slots=True)
class _Running:
    buffers: _Set
    items: int
    kept: Array | None = None

    def output(self) -> Array:
        """Wait for the copy back."""
        if self.kept is not None:
            return self.kept
        self.buffers.done.synchronize()
        if self.buffers.unread is self:
            self.buffers.unread = None
        answer: Array = self.buffers.answer[: self.items].numpy()
        return answer

    def keep(self) -> None:
        """Read it now, for whoever asks later: its buffers are wanted (a failed batch is being isolated)."""
        self.kept = self.output().copy()


class CudaBackend:
    """A batch is copied, computed and copied back without the host waiting until its answer is asked for."""

    at_once = 2

    def __init__(
        self,
        forward: Callable[..., torch.Tensor],
        spec: GraphSpec,
        max_batch: int,
        device: torch.device,
        *,
        pinned: bool,
        cuda_graphs: bool,
    ) -> None:
        torch.cuda.set_device(device)
        self._forward = forward
        self._spec = spec
        self._device = device
        self._graphs = cuda_graphs
        self._pool = torch.cuda.graph_pool_handle() if cuda_graphs else None  # graphs never run side by side
        self._compute = _Stream(device)
        self._copy = _Stream(device)
        self._sets = tuple(self._buffers(max_batch, pinned) for _ in range(2))
        self._next = 0

    @property
    def device(self) -> str:
        """The card's name."""
        return f"{self._device}: {torch.cuda.get_device_name(self._device)}"

    def stage(self) -> Sequence[Array]:
        """The staging arrays of the set whose turn it is; its last batch's copy to the device is over."""
        buffers = self._sets[self._next]
        buffers.copied.synchronize()
        return buffers.rows

    def submit(self, items: int, bucket: int) -> _Running:
        """Start copy, compute and copy back of the staged rows."""
        buffers = self._sets[self._next]
        self._next = 1 - self._next
        if buffers.unread is not None:
            buffers.unread.keep()
        with torch.inference_mode():
            self._copy.wait_event(buffers.done)  # the set's last batch has been read
            with torch.cuda.stream(self._copy):
                for host, device in zip(buffers.host, buffers.device, strict=True):
                    device[:bucket].copy_(host[:bucket], non_blocking=True)
                buffers.copied.record(self._copy)
            self._compute.wait_event(buffers.copied)
            with torch.cuda.stream(self._compute):
                output = self._run(buffers, bucket)
                buffers.answer[:items].copy_(output[:items], non_blocking=True)
                buffers.done.record(self._compute)
        buffers.unread = _Running(buffers, items)
        return buffers.unread

    def _run(self, buffers: _Set, bucket: int) -> torch.Tensor:
        if not self._graphs:
            return self._checked(self._forward(*(tensor[:bucket] for tensor in buffers.device)))
        if bucket not in buffers.graphs:
            buffers.graphs[bucket] = self._capture(buffers, bucket)
        graph, output = buffers.graphs[bucket]
        graph.replay()
        return output

    def _capture(self, buffers: _Set, bucket: int) -> tuple[torch.cuda.CUDAGraph, torch.Tensor]:
        """Record the launches of one bucket; warm-up runs first, since libraries initialise on first use."""
        inputs = [tensor[:bucket] for tensor in buffers.device]
        for _ in range(WARM_RUNS):
            self._checked(self._forward(*inputs))
        torch.cuda.synchronize(self._device)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._compute):
            output = self._checked(self._forward(*inputs))
        return graph, output

    def _checked(self, output: torch.Tensor) -> torch.Tensor:
        if not isinstance(output, torch.Tensor) or tuple(output.shape[1:]) != self._spec.output.shape:
            raise TypeError(f"the graph's answer is not of the stated shape {self._spec.output.allowed}")
        return output

    def _buffers(self, max_batch: int, pinned: bool) -> _Set:
        host = [_host(max_batch, t.shape, t.dtype, pinned) for t in self._spec.inputs]
        rows = [
            tensor.numpy().reshape(max_batch, -1).view(np.uint8).reshape(max_batch, spec.row_bytes)
            for tensor, spec in zip(host, self._spec.inputs, strict=True)
        ]
        output = self._spec.output
        return _Set(
            host=host,
            rows=rows,
            device=[tensor.to(self._device) for tensor in host],
            answer=_host(max_batch, output.shape, NUMPY_DTYPES[output.datatype], pinned),
            copied=_Event(),
            done=_Event(),
        )


def _host(rows: int, shape: tuple[int, ...], dtype: Any, pinned: bool) -> torch.Tensor:
    kind = torch.from_numpy(np.zeros(0, dtype)).dtype
    return torch.zeros((rows, *shape), dtype=kind, pin_memory=pinned)
