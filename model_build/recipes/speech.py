"""`speech`: which digit is spoken (Free Spoken Digit Dataset)? A GRU over log-mel made inside the graph."""

from __future__ import annotations

import hashlib
import io
import math
import re
import tarfile

import numpy as np
import torch
from torch import nn

from handlers.errors import BuildError
from handlers.serving.preprocess import decode_wavs
from model_build import sources
from model_build.data import cut
from model_build.recipe import (
    Distillation,
    Gates,
    Guarantee,
    Recipe,
    Sample,
    Split,
    Splits,
    TensorSpec,
    Training,
)  # fmt: skip
from model_build.sources import Source

LABELS = tuple(str(digit) for digit in range(10))
RATE_HZ, SECONDS = 8000, 1.0
WINDOW, HOP, MELS = 256, 128, 40
TEST_BELOW = 5
_NAME = re.compile(r"recordings/(\d)_(\w+)_(\d+)\.wav$")


def recordings(archive: bytes) -> list[tuple[int, str, int, bytes]]:
    """(digit, speaker, index, WAV) of every recording, in order. Raises BuildError for a damaged archive."""
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            found = [
                (int(name[1]), name[2], int(name[3]), file.read())
                for member in tar
                if (name := _NAME.search(member.name)) and (file := tar.extractfile(member))
            ]
    except (tarfile.TarError, EOFError, OSError) as error:
        raise BuildError(f"fsdd: not a whole tar.gz ({error})") from error
    return sorted(found)


def digest(archive: bytes) -> str:
    """The sha256 of the recordings' names and contents, however they are packed."""
    total = hashlib.sha256()
    for digit, speaker, index, wav in recordings(archive):
        total.update(f"{digit}_{speaker}_{index}.wav {sources.sha256_of(wav)}\n".encode())
    return total.hexdigest()


SOURCE = Source(
    "fsdd/fsdd.tar.gz",
    "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/26eb9aa.tar.gz",
    "89d0a49c5ea747e866b98fa25fe45867befdea538c4581496d2a0fa9b03c876b",
    digest,
)


def data() -> Splits:
    """Waveforms float32 [N, 8000]; index 0 to 4 of each speaker and digit is the test split."""
    found = recordings(sources.read(SOURCE))
    waves = decode_wavs([wav for *_, wav in found], RATE_HZ, round(RATE_HZ * SECONDS))
    targets = np.array([digit for digit, *_ in found], np.int64)
    is_test = np.array([index < TEST_BELOW for _, _, index, _ in found])
    everything = Split((waves,), targets)
    known = everything.take(np.flatnonzero(~is_test))
    rows = cut(len(known), seed=5, sizes={"validation": 270, "calibration": 100, "threshold": 430})
    held = np.flatnonzero(is_test)
    chosen = held[:: len(held) // 15][:15]
    return Splits(
        **{name: known.take(picked) for name, picked in rows.items()},
        test=everything.take(held),
        samples=tuple(Sample((found[row][3],), LABELS[targets[row]]) for row in chosen),
        unlabelled=None,
        files={},
    )


def disturb(tensors: tuple[torch.Tensor, ...], generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    """Each wave up to 15 % faster or slower, up to 100 ms later, louder or softer, with noise or none."""
    wave = tensors[0]
    count, length = wave.shape
    draw = torch.rand((4, count, 1), generator=generator)
    speed, later = 0.85 + 0.3 * draw[0], draw[1] * RATE_HZ / 10
    place = (torch.arange(length) - later) * speed
    left = place.floor().long()
    part = (place - left).to(wave.device)
    inside = ((left >= 0) & (left < length - 1)).to(wave.device)
    left = left.clamp(0, length - 2).to(wave.device)
    moved = (wave.gather(1, left) * (1 - part) + wave.gather(1, left + 1) * part) * inside
    gain = torch.exp(1.4 * (draw[2] - 0.5)).to(wave.device)
    noise = torch.randn(wave.shape, generator=generator) * (0.003 * draw[3] ** 3)
    return (moved * gain + noise.to(wave.device),)


def mel_filters(bins: int, mels: int, rate_hz: int) -> torch.Tensor:
    """Triangular filters [bins, mels], even in mel(f) = 2595·log10(1 + f/700) (O'Shaughnessy 1987)."""
    top = 2595 * math.log10(1 + rate_hz / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, mels + 2) / 2595) - 1)
    frequencies = np.linspace(0, rate_hz / 2, bins)[:, None]
    rising = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
    return torch.from_numpy(np.maximum(0, np.minimum(rising, falling)).astype(np.float32))


class LogMel(nn.Module):
    """Wave [B, 8000] -> log-mel [B, frames, mels]: Fourier by convolution, so that it exports."""

    def __init__(self) -> None:
        super().__init__()
        bins = WINDOW // 2 + 1
        angle = 2 * math.pi * torch.arange(bins)[:, None] * torch.arange(WINDOW) / WINDOW
        window = torch.hann_window(WINDOW)
        waves = torch.cat((angle.cos() * window, angle.sin() * window))[:, None]
        self.register_buffer("waves", waves.float(), persistent=False)
        self.register_buffer("mels", mel_filters(bins, MELS, RATE_HZ), persistent=False)

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        parts = nn.functional.conv1d(wave[:, None], self.get_buffer("waves"), stride=HOP)
        cosine, sine = parts.chunk(2, dim=1)
        power = (cosine * cosine + sine * sine).transpose(1, 2)
        return ((power @ self.get_buffer("mels")) + 1e-3).log() * 0.25 + 0.5


class Listener(nn.Module):
    """Log-mel, one convolution over time that halves the frames, a GRU, the mean and the last state."""

    def __init__(self, channels: int, width: int, both_ways: bool, dropout: float) -> None:
        super().__init__()
        self.features = LogMel()
        self.squeeze = nn.Conv1d(MELS, channels, 5, stride=2, padding=2)
        self.norm = nn.BatchNorm1d(channels)
        self.recurrent = nn.GRU(channels, width, batch_first=True, bidirectional=both_ways)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width * (2 if both_ways else 1), len(LABELS))

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        squeezed = self.norm(self.squeeze(self.features(wave).transpose(1, 2))).relu()
        states, _ = self.recurrent(self.dropout(squeezed.transpose(1, 2)))
        logits: torch.Tensor = self.head(self.dropout(states.mean(dim=1)))
        return logits


def teacher() -> nn.Module:
    """A GRU of 128 in both directions."""
    return Listener(channels=96, width=128, both_ways=True, dropout=0.3)


def student() -> nn.Module:
    """A GRU of 64 in one direction."""
    return Listener(channels=48, width=64, both_ways=False, dropout=0.1)


RECIPE = Recipe(
    name="speech",
    task="classification",
    labels=LABELS,
    inputs=(TensorSpec("wav", "BYTES", (-1, 1)),),
    preprocess={"kind": "wav", "sample_rate": RATE_HZ, "max_seconds": SECONDS},
    tensors=(TensorSpec("wave", "FP32", (-1, round(RATE_HZ * SECONDS))),),
    data=data,
    teacher=teacher,
    student=student,
    augment=disturb,
    teacher_training=Training(epochs=30, batch_size=32, learning_rate=3e-3, weight_decay=0.01, average=0.99),
    student_training=Training(epochs=40, batch_size=32, learning_rate=6e-3, weight_decay=0.01, average=0.99),
    distillation=Distillation(temperature=3.0, weight=0.8),
    guarantee=Guarantee(epsilon=0.03),
    gates=Gates(max_drop=0.02, min_accuracy=0.95),
)
