"""Fits one network to a lesson: seeded, stopped early, resumable after a kill.

Every random draw of an epoch follows from (seed, epoch), and the checkpoint is written between epochs,
so a resumed run ends with the very weights of an uninterrupted one.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from handlers.errors import BuildError
from model_build import parallel
from model_build.lesson import Lesson, learning_rate
from model_build.recipe import Array, Training
from model_build.step import Progress
from model_build.trained import Epoch, Role, Trained

EVALUATION_BATCH = 512


@torch.inference_mode()
def predict(network: nn.Module, tensors: tuple[Array, ...]) -> Array:
    """Outputs [N, K] of the network in eval mode, float32, on whatever device it is."""
    device = next(network.parameters()).device
    network.eval()
    batches = [
        network(
            *(torch.from_numpy(tensor[start : start + EVALUATION_BATCH]).to(device) for tensor in tensors)
        )
        for start in range(0, len(tensors[0]), EVALUATION_BATCH)
    ]
    outputs: Array = torch.cat(batches).float().cpu().numpy()
    return outputs


class Run:
    """The state of one training: network, optimiser, averaged weights, those to keep, the curve."""

    def __init__(self, network: nn.Module, training: Training) -> None:
        self.network = network
        self.optimiser = torch.optim.AdamW(
            network.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay
        )
        self.average = _copy(network) if training.average else None
        self.kept: dict[str, torch.Tensor] = {}
        self.curve: list[Epoch] = []
        self.seconds = 0.0

    def save(self, file: Path) -> None:
        """Writes the checkpoint, whole or not at all."""
        part = file.with_suffix(".part")
        torch.save(
            {
                "network": self.network.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "average": self.average,
                "kept": self.kept,
                "curve": [asdict(epoch) for epoch in self.curve],
                "seconds": self.seconds,
            },
            part,
        )
        part.replace(file)

    def restore(self, saved: dict[str, Any]) -> None:
        """Goes on from a checkpoint."""
        self.network.load_state_dict(saved["network"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.average, self.kept = saved["average"], saved["kept"]
        self.curve = [Epoch(**epoch) for epoch in saved["curve"]]
        self.seconds = saved["seconds"]

    def kept_epoch(self, keep: str) -> Epoch:
        """The last epoch, or the one with the best score, the later of equals."""
        if keep == "last":
            return self.curve[-1]
        return max(self.curve, key=lambda epoch: (epoch.score, epoch.epoch))


def fit(
    network: nn.Module, lesson: Lesson, *, name: str, role: Role, folder: Path, progress: Progress
) -> Trained:
    """Trains `network` and writes the kept epoch's weights to `folder/name.pt`.

    Raises BuildError when the loss is not finite, naming epoch, batch and rows.
    """
    training = lesson.training
    with parallel.threads(training.threads):
        return _fit(network, lesson, name, role, folder, progress)


def _fit(
    network: nn.Module, lesson: Lesson, name: str, role: Role, folder: Path, progress: Progress
) -> Trained:
    training = lesson.training
    device = parallel.device()
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = Run(network, training)
    checkpoint = folder / f"{name}.checkpoint"
    saved = parallel.from_first(
        lambda: torch.load(checkpoint, weights_only=True) if checkpoint.exists() else None
    )
    if saved is not None:
        run.restore(saved)
    model = parallel.wrap(run.network)
    inputs = tuple(torch.from_numpy(tensor).to(device) for tensor in lesson.inputs)
    while len(run.curve) < training.epochs and not _is_stale(run, training):
        started = time.perf_counter()
        epoch = len(run.curve)
        loss, rate = _train_epoch(model, run, lesson, inputs, name, epoch)
        run.curve.append(parallel.from_first(lambda: _evaluate(run, lesson, epoch + 1, loss, rate)))  # noqa: B023
        if run.kept_epoch(training.keep).epoch == epoch + 1:
            run.kept = (
                _copy(run.network) if run.average is None else {k: v.clone() for k, v in run.average.items()}
            )
        run.seconds += time.perf_counter() - started
        if parallel.rank() == 0:
            run.save(checkpoint)
        text = f"epoch {epoch + 1}/{training.epochs}  {lesson.metric.name} {run.curve[-1].score:.4f}"
        progress((epoch + 1) / training.epochs, text)
    weights = folder / f"{name}.pt"
    kept = parallel.from_first(lambda: {key: value.cpu() for key, value in run.kept.items()})
    torch.save(kept, weights)
    checkpoint.unlink(missing_ok=True)
    return Trained(
        name=name,
        role=role,
        weights=weights,
        score=run.kept_epoch(training.keep).score,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        curve=tuple(run.curve),
        train_s=round(run.seconds, 3),
    )


def _is_stale(run: Run, training: Training) -> bool:
    if training.patience is None or not run.curve:
        return False
    first_best = max(run.curve, key=lambda epoch: (epoch.score, -epoch.epoch))
    return len(run.curve) - first_best.epoch >= training.patience


def _train_epoch(
    model: nn.Module, run: Run, lesson: Lesson, inputs: tuple[torch.Tensor, ...], name: str, epoch: int
) -> tuple[float, float]:
    """One pass over the data; returns the mean loss and the last learning rate."""
    training = lesson.training
    count = len(inputs[0])
    torch.manual_seed(lesson.seed * 100_003 + epoch)
    generator = torch.Generator().manual_seed(lesson.seed * 100_003 + epoch)
    order = torch.randperm(count, generator=generator)
    steps = max(1, count // training.batch_size)
    model.train()
    half = training.precision == "bf16" and parallel.has_bf16(inputs[0].device)
    total, rate = 0.0, training.learning_rate
    for step in range(steps):
        rate = learning_rate(training, (epoch * steps + step) / (training.epochs * steps))
        for group in run.optimiser.param_groups:
            group["lr"] = rate
        batch = order[step * training.batch_size : (step + 1) * training.batch_size]
        rows = parallel.share(batch).to(inputs[0].device)
        examples = tuple(tensor[rows] for tensor in inputs)
        if lesson.augment is not None:
            examples = lesson.augment(examples, generator)
        with torch.autocast(rows.device.type, torch.bfloat16, enabled=half):
            outputs = model(*(_channels_last(tensor) for tensor in examples))
        loss = lesson.objective(outputs.float(), rows)
        value = loss.item()
        if not math.isfinite(value):
            raise BuildError(
                f"{name}: the loss is {value} in epoch {epoch + 1}, batch {step + 1} of {steps} "
                f"(rows {rows[:5].tolist()}…); look at these rows, or lower the learning rate "
                f"(now {rate:.2g})"
            )
        run.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss * parallel.weight(len(rows), len(batch)))
        run.optimiser.step()
        if run.average is not None:
            _update(run.average, run.network, training.average, epoch * steps + step)
        total += value
    return total / steps, rate


def _channels_last(tensor: torch.Tensor) -> torch.Tensor:
    """Images with their channels innermost, which convolutions on CPU and GPU prefer; others as they are."""
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def _evaluate(run: Run, lesson: Lesson, epoch: int, train_loss: float, rate: float) -> Epoch:
    own = _copy(run.network)
    if run.average is not None:
        run.network.load_state_dict(run.average)
    outputs = predict(run.network, lesson.validation.tensors)
    run.network.load_state_dict(own)
    targets = lesson.validation.targets
    loss = float(lesson.loss(torch.from_numpy(outputs), torch.from_numpy(targets)))
    return Epoch(epoch, train_loss, loss, lesson.metric.score(outputs, targets), rate)


def _copy(network: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.detach().clone() for key, value in network.state_dict().items()}


@torch.no_grad()
def _update(average: dict[str, torch.Tensor], network: nn.Module, decay: float, step: int) -> None:
    """average ← d·average + (1 − d)·weights, with d growing from 0 so that the start is forgotten."""
    decay = min(decay, (1 + step) / (10 + step))
    for key, value in network.state_dict().items():
        if value.is_floating_point():
            average[key].lerp_(value, 1 - decay)
        else:
            average[key].copy_(value)
