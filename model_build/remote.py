"""The entry point of a SageMaker training job: `python -m model_build.remote`, the same pipeline as here.

It trains (and, asked to, compresses) in a cache under /opt/ml/checkpoints, which SageMaker keeps in S3 while
the job runs: an interrupted spot job starts again with the finished steps and the last epoch's checkpoint.
The finished steps go to SM_MODEL_DIR/cache, from where any machine's build goes on.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

import torch

from handlers.errors import TurnoutError
from model_build import build, cache, container, parallel, pipeline, steps
from model_build.container import Container, Settings
from model_build.recipes import find

TERMINATED = 128 + signal.SIGTERM
MASTER_PORT = 29501


class Terminated(SystemExit):
    """Raised where a SIGTERM arrives: the last epoch's checkpoint is on disk already."""

    def __init__(self) -> None:
        super().__init__(TERMINATED)


class Lines:
    """A `model_build.pipeline.Watch` that prints what CloudWatch's metric expressions read."""

    def started(self, step: str) -> None:
        print(f"turnout step={step} started", flush=True)

    def progressed(self, step: str, share: float, text: str) -> None:
        print(f"turnout step={step} done={share:.4f} {text}", flush=True)

    def finished(self, step: str, seconds: float, cached: bool) -> None:
        print(f"turnout step={step} seconds={seconds:.1f} cached={cached}", flush=True)


def main(environment: Mapping[str, str] = os.environ) -> int:
    """Runs the job; returns the exit code. A failure's text goes to /opt/ml/output/failure."""
    here = container.read(environment)
    try:
        asked = container.settings(here.hyperparameters)
        count = asked.ranks or max(1, torch.cuda.device_count())
        if "LOCAL_RANK" not in environment and count * len(here.hosts) > 1:
            os.execv(sys.executable, torchrun(here, count))  # noqa: S606  # this very interpreter
        with terminated(), parallel.group():
            work(here, asked)
    except TurnoutError as error:
        here.failure.parent.mkdir(parents=True, exist_ok=True)
        here.failure.write_text(f"{error}\n")
        print(f"turnout: error: {error}", file=sys.stderr)
        return 1
    return 0


def torchrun(here: Container, ranks: int) -> list[str]:
    """The command that starts `ranks` processes of this entry point on this host, joined with the others."""
    return [
        sys.executable, "-m", "torch.distributed.run",
        f"--nnodes={len(here.hosts)}", f"--nproc-per-node={ranks}",
        f"--node-rank={here.hosts.index(here.current_host)}",
        f"--master-addr={here.hosts[0]}", f"--master-port={MASTER_PORT}",
        "-m", "model_build.remote",
    ]  # fmt: skip


@contextmanager
def terminated() -> Iterator[None]:
    """SIGTERM (spot: 120 s before the end) stops at once and in order."""

    def stop(_number: int, _frame: FrameType | None) -> NoReturn:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def work(here: Container, asked: Settings) -> None:
    """Trains on all ranks; the first rank goes on to the release if asked, and fills SM_MODEL_DIR."""
    if here.data is not None:
        os.environ["TURNOUT_DATA_DIR"] = str(here.data)
    recipe = container.applied(find(asked.recipe), asked)
    with tempfile.TemporaryDirectory() as scratch:
        root = here.checkpoints / "cache" if parallel.rank() == 0 else Path(scratch)
        ready = build.prepare(recipe, root, steps.TRAINING)
        share_finished(ready.planned, ready.cache)
        ready = build.prepare(recipe, root, steps.TRAINING)
        watch = Lines() if parallel.rank() == 0 else None
        pipeline.run(recipe, ready.splits, ready.planned, ready.cache, watch)
        if parallel.rank() > 0:
            return
    if asked.until == "release":
        ready = build.prepare(recipe, root)
        build.build(ready, watch, here.model_dir / "releases")
    hand_over(ready.planned, ready.cache, here.model_dir)


def share_finished(planned: Sequence[pipeline.Planned], store: cache.Cache) -> None:
    """Gives the steps that the first rank has finished to the others, so that all run the same steps."""
    for item in planned:
        folder = store.path(item.step.name, item.key)
        files = parallel.from_first(
            lambda folder=folder: {file.name: file.read_bytes() for file in folder.glob("*")}  # type: ignore[misc]
        )
        if files and parallel.rank() > 0:
            folder.mkdir(parents=True)
            for name, content in files.items():
                (folder / name).write_bytes(content)


def hand_over(planned: Sequence[pipeline.Planned], store: cache.Cache, model_dir: Path) -> None:
    """Copies the finished steps to SM_MODEL_DIR/cache/<model>."""
    for item in planned:
        folder = store.path(item.step.name, item.key)
        shutil.copytree(folder, model_dir / "cache" / store.folder.name / folder.name, dirs_exist_ok=True)


if __name__ == "__main__":
    sys.exit(main())
