"""The roofs over a batch, and the work that is counted under them."""

from __future__ import annotations

import pytest

from scripts.bench.ceiling import Rates, Work, ceiling, work_of
from scripts.bench.gpu_models import BenchModel, Encoder, light

RATES = Rates(flops=1e12, memory_bytes=1e11, bus_bytes=1e10)


@pytest.mark.parametrize(
    ("work", "items", "items_per_s", "roof"),
    [
        (Work(flops=1e9, weights=1000, item_bytes=100), 8, 1e3, "arithmetic"),
        (Work(flops=1e3, weights=25_000_000, item_bytes=0), 8, 8e3, "memory"),
        (
            Work(flops=1e3, weights=25_000_000, item_bytes=0),
            1,
            1e3,
            "memory",
        ),  # weights are read once a batch
        (Work(flops=1e3, weights=10, item_bytes=1_000_000), 8, 1e4, "bus"),
    ],
)
def test_the_lowest_roof_is_the_ceiling(work: Work, items: int, items_per_s: float, roof: str) -> None:
    found = ceiling(work, RATES, items, weight_bytes=4)
    assert found.items_per_s == pytest.approx(items_per_s, rel=0.01)
    assert found.roof == roof


def test_the_work_of_a_layer_is_its_products() -> None:
    model = BenchModel("light", light, "FP32", (784,), 10, 1, 1)
    work = work_of(model)
    assert work.flops == 2 * (784 * 256 + 256 * 10)
    assert work.weights == 784 * 256 + 256 + 256 * 10 + 10
    assert work.item_bytes == 4 * (784 + 10)


def test_a_transformer_is_counted_with_its_layers_and_without_the_words_it_does_not_look_up() -> None:
    words, width, length = 5000, 32, 16
    model = BenchModel("small", lambda: Encoder(words, width, 2, 3, length, 2), "INT64", (length,), 2, 1, 1)
    work = work_of(model)
    layer = 4 * width * width + 2 * width * 4 * width  # projections and the feed-forward net
    assert work.flops >= 2 * 3 * layer * length
    assert 3 * layer < work.weights < 3 * layer + words * width
