"""`sst2`: is a sentence of a film review kind or not (Socher et al. 2013)? A Transformer from scratch."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from handlers.errors import BuildError
from handlers.serving.preprocess import PAD, UNKNOWN, encode_texts, parse_vocabulary, tokenise
from model_build import sources
from model_build.data import cut
from model_build.recipe import (
    Distillation,
    Gates,
    Guarantee,
    Pruning,
    Recipe,
    Sample,
    Split,
    Splits,
    TensorSpec,
    Training,
)  # fmt: skip
from model_build.sources import Source

LABELS = ("negative", "positive")
MAX_TOKENS = 48
VOCABULARY = "cpu/vocab.txt"
LEAST_SEEN = 2
MIRROR = "https://github.com/clairett/pytorch-sentiment-classification/raw/457ffd83de90a9d6d472d8ffc31bbffe40a8b236/data/SST2"
TRAIN = Source(
    "sst2/train.tsv",
    f"{MIRROR}/train.tsv",
    "ec192f833a64da08f475488a77b0d0b47db47acd0f458bd18433fc793b569920",
)
DEV = Source(
    "sst2/dev.tsv", f"{MIRROR}/dev.tsv", "eddea6b39e601dd4e7a672b53cc40fdf6019fa80522f351206c24340ca5d9359"
)
TEST = Source(
    "sst2/test.tsv", f"{MIRROR}/test.tsv", "831169c7e2e429d6026e1bdbb542f33b636e3e596caad9602ebc953c205928b7"
)


def parse(content: bytes, name: str) -> tuple[list[str], np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Sentences and labels of `sentence<TAB>0|1` lines. Raises BuildError naming the line."""
    sentences, targets = [], []
    for number, line in enumerate(content.decode().splitlines(), 1):
        sentence, tab, label = line.rpartition("\t")
        if not tab or label not in ("0", "1"):
            raise BuildError(f"{name}: line {number} is not `sentence<TAB>0` or `…1`: {line[:60]!r}")
        sentences.append(sentence)
        targets.append(int(label))
    return sentences, np.array(targets, np.int64)


def vocabulary_of(sentences: list[str]) -> bytes:
    """The words seen at least twice, most frequent first, after the padding and the unknown word."""
    counts = Counter(token for sentence in sentences for token in tokenise(sentence))
    words = [
        word
        for word, seen in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        if seen >= LEAST_SEEN
    ]
    return "\n".join(["<pad>", "<unk>", *words]).encode()


def data() -> Splits:
    """Token ids int64 [N, 48]; dev is cut into validation and calibration, threshold is cut from train."""
    (known, known_targets), (dev, dev_targets), (test, test_targets) = (
        parse(sources.read(source), source.path) for source in (TRAIN, DEV, TEST)
    )
    vocabulary = vocabulary_of(known)
    words = parse_vocabulary(vocabulary)

    def split(sentences: list[str], targets: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Split:
        return Split((encode_texts(sentences, words, MAX_TOKENS),), targets)

    train_rows = cut(len(known), seed=3, sizes={"threshold": 900})
    dev_rows = cut(len(dev), seed=3, sizes={"calibration": 150}, rest="validation")
    labelled, held = split(known, known_targets), split(dev, dev_targets)
    return Splits(
        train=labelled.take(train_rows["train"]),
        threshold=labelled.take(train_rows["threshold"]),
        validation=held.take(dev_rows["validation"]),
        calibration=held.take(dev_rows["calibration"]),
        test=split(test, test_targets),
        samples=tuple(Sample((test[row].encode(),), LABELS[test_targets[row]]) for row in range(16)),
        files={VOCABULARY: vocabulary},
    )


def drop_words(tensors: tuple[torch.Tensor, ...], generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    """One word in five becomes unknown, so that no single word decides."""
    ids = tensors[0]
    dropped = (torch.rand(ids.shape, generator=generator) < 0.2).to(ids.device) & (ids != PAD)
    return (torch.where(dropped, UNKNOWN, ids),)


class Layer(nn.Module):
    """One pre-norm Transformer layer; attention is written out, so that it exports as matmuls."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_hidden = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.merge = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor, hide: torch.Tensor) -> torch.Tensor:
        """`x` [B, T, W]; `hide` [B, 1, 1, T]: −10⁴ where there is padding, else 0."""
        normal = self.norm_attention(x)
        query, key, value = (
            layer(normal).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        scores = query @ key.transpose(-1, -2) * (key.shape[-1] ** -0.5) + hide
        mixed = (scores.softmax(dim=-1) @ value).transpose(1, 2).flatten(2)
        x = x + self.dropout(self.merge(mixed))
        hidden: torch.Tensor = self.down(functional.relu(self.up(self.norm_hidden(x))))
        result: torch.Tensor = x + self.dropout(hidden)
        return result


class Encoder(nn.Module):
    """Embeddings, `layers` Transformer layers, mean over the words, two logits."""

    def __init__(self, width: int, heads: int, layers: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, width, padding_idx=PAD)
        self.places = nn.Parameter(torch.randn(MAX_TOKENS, width) * 0.02)
        nn.init.normal_(self.words.weight, std=0.1)
        self.layers = nn.ModuleList(Layer(width, heads, hidden, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, len(LABELS))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        seen = (tokens != PAD).unsqueeze(-1).float()
        x = self.dropout(self.words(tokens) + self.places)
        hide = ((1 - seen) * -1e4).transpose(1, 2).unsqueeze(1)
        for layer in self.layers:
            x = layer(x, hide)
        mean = (self.norm(x) * seen).sum(dim=1) / seen.sum(dim=1).clamp(min=1)
        logits: torch.Tensor = self.head(self.dropout(mean))
        return logits


WORDS = 7264
"""Room for the vocabulary of the training sentences, a multiple of 16."""


class Committee(nn.Module):
    """Encoders that learn each for itself and answer with their mean: a large one learns these 6,000
    sentences by heart, several small ones err each on their own.

    Returns the mean logits [B, 2]; in training those of every member, [B, members · 2].
    """

    def __init__(self, members: int) -> None:
        super().__init__()
        self.members = nn.ModuleList(
            Encoder(width=128, heads=4, layers=1, hidden=256, dropout=0.4) for _ in range(members)
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        logits = torch.stack([member(tokens) for member in self.members], dim=1)
        return logits.flatten(1) if self.training else logits.mean(dim=1)


def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy, the mean over members and sentences; outputs [B, members · 2]."""
    logits = outputs.reshape(len(outputs), -1, len(LABELS))
    return functional.cross_entropy(logits.flatten(0, 1), targets.repeat_interleave(logits.shape[1]))


def teacher() -> nn.Module:
    """Four encoders of one layer, width 128."""
    return Committee(4)


def student() -> nn.Module:
    """One layer of width 64."""
    return Encoder(width=64, heads=4, layers=1, hidden=128, dropout=0.3)


RECIPE = Recipe(
    name="sst2",
    task="classification",
    labels=LABELS,
    inputs=(TensorSpec("text", "BYTES", (-1, 1)),),
    preprocess={"kind": "text", "vocabulary": VOCABULARY, "max_tokens": MAX_TOKENS},
    tensors=(TensorSpec("tokens", "INT64", (-1, MAX_TOKENS)),),
    data=data,
    teacher=teacher,
    student=student,
    augment=drop_words,
    loss=loss,
    teacher_training=Training(
        epochs=6, batch_size=64, learning_rate=1e-3, weight_decay=0.1, average=0.99, keep="last"
    ),
    student_training=Training(
        epochs=8, batch_size=64, learning_rate=2e-3, weight_decay=0.1, average=0.99, keep="last"
    ),
    distillation=Distillation(temperature=2.0, weight=0.9),
    pruning=Pruning(
        ratios=(0.5,),
        training=Training(
            epochs=4, batch_size=64, learning_rate=1e-3, weight_decay=0.1, average=0.99, keep="last"
        ),
    ),
    guarantee=Guarantee(epsilon=0.03),
    gates=Gates(max_drop=0.01, min_accuracy=0.78),
)
