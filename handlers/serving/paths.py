"""The two ways to an answer, as ports: what the race between them needs to know, and no more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from handlers.serving.postprocess import Scored, score

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from handlers.protocol.tensors import Tensor
    from handlers.serving.manifest import Manifest
    from handlers.serving.session import OnnxSession


class Job(NamedTuple):
    """One request's work: `wire` as it came, `arrays` as the graph takes it, `arrived` in clock seconds."""

    wire: tuple[Tensor, ...]
    arrays: tuple[NDArray[Any], ...]
    items: int
    arrived: float
    priority: str

    def part(self, first: int, end: int) -> Job:
        """The items from `first` up to `end`."""
        return Job(
            tuple(tensor._replace(array=tensor.array[first:end]) for tensor in self.wire),
            tuple(array[first:end] for array in self.arrays),
            end - first,
            self.arrived,
            self.priority,
        )


class Attempt(Protocol):
    """A CPU answer in the making."""

    def run(self) -> Scored:
        """Compute or fetch it. Raises EndpointError when the model's function gives none."""
        ...

    def stop(self) -> None:
        """Make a running `run` end early, with an exception; its answer is no longer wanted."""
        ...


class CpuPath(Protocol):
    """The cpu variant: in this process, or in the model's own function."""

    def answer(self, job: Job, timeout_s: float) -> Scored:
        """Compute or fetch an answer that is wanted for certain. Raises EndpointError as an attempt does."""
        ...

    def attempt(self, job: Job, timeout_s: float) -> Attempt:
        """Prepare an answer; nothing runs yet. `timeout_s` bounds a call to another function."""
        ...


class GpuPath(Protocol):
    """The gpu variant behind its endpoint."""

    def infer(self, arrays: Sequence[NDArray[Any]], timeout_s: float, priority: str) -> NDArray[np.float32]:
        """Raw logits or values. Raises EndpointError."""
        ...


class InProcessCpu:
    """The cpu variant in this very function."""

    def __init__(self, session: OnnxSession, manifest: Manifest) -> None:
        self._session = session
        self._task = manifest.task
        self._temperature = manifest.cpu.temperature

    def answer(self, job: Job, timeout_s: float) -> Scored:  # noqa: ARG002 - the port's signature
        """Infer and score."""
        return score(self._session.run(job.arrays), self._task, self._temperature)

    def attempt(self, job: Job, timeout_s: float) -> InProcessAttempt:  # noqa: ARG002 - the port's signature
        """Prepare one run of the session."""
        return InProcessAttempt(self._session, job.arrays, self._task, self._temperature)


class InProcessAttempt:
    """One run of the session, which another thread can stop."""

    def __init__(
        self, session: OnnxSession, arrays: tuple[NDArray[Any], ...], task: str, temperature: float
    ) -> None:
        self._session = session
        self._arrays = arrays
        self._task = task
        self._temperature = temperature
        self._options = session.run_options()

    def run(self) -> Scored:
        """Infer and score."""
        return score(self._session.run(self._arrays, self._options), self._task, self._temperature)

    def stop(self) -> None:
        """End the run at the next node of the graph."""
        self._options.terminate = True
