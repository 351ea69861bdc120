"""Charts: markup that parses, values inside the frame, axes with round ticks."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from hypothesis import given
from hypothesis import strategies as st

from model_build.chart import HEIGHT, WIDTH, Axis, Dot, Series, around, around_log, heat, plot
from model_build.page import card, page, table


def parsed(markup: str) -> ElementTree.Element:
    return ElementTree.fromstring(f"<root>{markup}</root>")


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_linear_axes_have_a_few_ticks_inside_their_range(low: float, width: float) -> None:
    axis = Axis("x", low, low + width)
    slack = 1e-6 * (abs(low) + width)
    assert 2 <= len(axis.ticks()) <= 8
    assert all(low - slack <= tick <= low + width + slack for tick in axis.ticks())


@given(st.lists(st.floats(1e-4, 1e5), min_size=1, max_size=20))
def test_logarithmic_axes_hold_their_values_and_have_ticks(values: list[float]) -> None:
    axis = around_log(values, "ms")
    assert all(0 < axis.share(value) < 1 for value in values)
    assert axis.ticks()


def test_a_plot_is_well_formed_and_keeps_its_marks_inside() -> None:
    x, y = around_log([0.01, 10.0], "ms"), around([0.9, 0.99], "accuracy & more")
    dots = [Dot(0.01, 0.9, label="a<b"), Dot(10.0, 0.99, label="c", tip='"quoted"')]
    root = parsed(
        plot(x, y, [Series("line <1>", [(0.01, 0.9), (10, 0.99)])], dots, band=(0.95, 2.0), vertical=1.0)
    )
    for circle in root.iter("circle"):
        assert 0 < float(circle.get("cx", "nan")) < WIDTH
        assert 0 < float(circle.get("cy", "nan")) < HEIGHT
    assert "a<b" in "".join(root.itertext())


def test_equal_values_still_make_an_axis() -> None:
    assert around([0.5, 0.5], "x").low < 0.5 < around([0.5, 0.5], "x").high


def test_a_confusion_matrix_shows_every_count() -> None:
    root = parsed(heat([[9, 1], [0, 10]], ["no", "<yes>"], "confusion"))
    texts = [text.text for text in root.iter("text")]
    assert {"9", "1", "10"} <= set(texts)
    assert "0" not in texts


def test_text_of_a_recipe_cannot_become_markup() -> None:
    whole = page("<t>", card("<a>", "<b>", table(["<h>"], [["<script>"]], chosen=0, words=0)))
    assert "<script>" not in whole
    assert "&lt;script&gt;" in whole
