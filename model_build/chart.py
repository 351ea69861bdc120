"""Charts as inline SVG: pure functions from numbers to markup; colours and fonts come from the page's CSS.

Classes used: `s0`…`s3` (series), `axis`, `grid`, `mark` (what the eye should find), `band`, `tip`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

WIDTH, HEIGHT = 560, 320
LEFT, RIGHT, TOP, BOTTOM = 74, 18, 16, 46


@dataclass(frozen=True, slots=True)
class Series:
    """A line: points (x, y), its name and the class that colours it."""

    name: str
    points: Sequence[tuple[float, float]]
    css: str = "s0"
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Dot:
    """One marked point. `radius` in px; `label` beside it; `tip` shown on hover."""

    x: float
    y: float
    css: str = "s0"
    radius: float = 4.5
    label: str = ""
    tip: str = ""
    hollow: bool = False


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis: title, range, logarithmic or not, and how a tick is written."""

    title: str
    low: float
    high: float
    log: bool = False
    form: Callable[[float], str] = "{:g}".format

    def share(self, value: float) -> float:
        """Where `value` lies between low (0) and high (1)."""
        if self.log:
            return (log10(max(value, 1e-300)) - log10(self.low)) / (log10(self.high) - log10(self.low))
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Four to seven round values inside the range."""
        if self.log:
            return _log_ticks(self.low, self.high)
        raw = (self.high - self.low) / 5
        power = 10.0 ** floor(log10(raw))
        step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
        first = ceil(self.low / step - 1e-9)
        count = int((self.high - first * step) / step + 1e-9)
        return [(first + index) * step for index in range(count + 1)]


def around(values: Sequence[float], title: str, form: Callable[[float], str] = "{:g}".format) -> Axis:
    """A linear axis with a margin around the values."""
    low, high = min(values), max(values)
    margin = 0.08 * (high - low) or 0.05 * (abs(high) or 1)
    return Axis(title, low - margin, high + margin, form=form)


def around_log(values: Sequence[float], title: str, form: Callable[[float], str] = "{:g}".format) -> Axis:
    """A logarithmic axis with a margin around the values, at least a factor of two wide."""
    low, high = min(values), max(values)
    spread = max((high / low) ** 0.12, 1.35)
    return Axis(title, low / spread, high * spread, log=True, form=form)


def plot(
    x: Axis,
    y: Axis,
    lines: Sequence[Series] = (),
    dots: Sequence[Dot] = (),
    band: tuple[float, float] | None = None,
    vertical: float | None = None,
    name: str = "",
) -> str:
    """Lines and dots over two axes; `band`: a y range to shade; `vertical`: an x to mark."""
    parts = [_frame(x, y)]
    if band is not None:
        top, bottom = _y(y, min(band[1], y.high)), _y(y, max(band[0], y.low))
        parts.append(
            f'<rect class="band" x="{LEFT}" y="{top:.1f}" width="{WIDTH - LEFT - RIGHT}" '
            f'height="{max(0.0, bottom - top):.1f}"/>'
        )
    if vertical is not None:
        at = _x(x, vertical)
        parts.append(f'<line class="cut" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
    for line in lines:
        path = " ".join(f"{_x(x, px):.1f},{_y(y, py):.1f}" for px, py in line.points)
        dash = ' stroke-dasharray="5 4"' if line.dashed else ""
        parts.append(f'<polyline class="line {line.css}" points="{path}"{dash}/>')
    taken: list[tuple[float, float]] = []
    parts += [_dot(x, y, dot, taken) for dot in dots]
    legend = _legend([line for line in lines if line.name])
    return _svg(WIDTH, HEIGHT, name, parts) + legend


def heat(counts: Sequence[Sequence[int]], labels: Sequence[str], name: str) -> str:
    """A confusion matrix: rows are what is, columns what was answered; shade by share of the row."""
    size = len(counts)
    cell = min(40.0, 420 / size)
    width, height = 110 + cell * size, 66 + cell * size
    parts = [_text(90 + cell * size / 2, 14, "answered", "middle")]
    for row, line in enumerate(counts):
        total = sum(line) or 1
        y = 44 + cell * row
        parts.append(_text(82, y + cell / 2 + 4, labels[row][:12], "end"))
        for column, count in enumerate(line):
            share = count / total
            css, x = "hit" if row == column else "miss", 90 + cell * column
            # A single mistake must be seen, a whole row need not shout.
            opacity = 0.0 if count == 0 else 0.18 + 0.82 * share ** (1 if row == column else 0.35)
            words = f"{labels[row]} answered as {labels[column]}: {count}"
            parts.append(
                f'<rect class="{css}" x="{x:.1f}" y="{y:.1f}" width="{cell - 2:.1f}" '
                f'height="{cell - 2:.1f}" rx="4" fill-opacity="{opacity:.2f}">'
                f"<title>{escape(words)}</title></rect>"
            )
            if count:
                strong = row == column and share > 0.5
                css = "cell strong" if strong else "cell"
                parts.append(_text(x + cell / 2 - 1, y + cell / 2 + 3, str(count), "middle", css))
    for column, label in enumerate(labels):
        parts.append(_text(90 + cell * column + cell / 2, 36, label[:8], "middle"))
    return f'<div style="max-width:{width:.0f}px">{_svg(width, height, name, parts)}</div>'


def _svg(width: float, height: float, name: str, parts: Sequence[str]) -> str:
    head = f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(name)}">'
    return f"{head}{''.join(parts)}</svg>"


def _text(x: float, y: float, content: str, anchor: str, css: str = "axis") -> str:
    return f'<text class="{css}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(content)}</text>'


def _frame(x: Axis, y: Axis) -> str:
    parts = []
    for tick in y.ticks():
        at = _y(y, tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(_text(LEFT - 8, at + 4, y.form(tick), "end"))
    base = HEIGHT - BOTTOM
    for tick in x.ticks():
        at = _x(x, tick)
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{base}" y2="{base + 5}"/>')
        parts.append(_text(at, base + 19, x.form(tick), "middle"))
    parts.append(f'<line class="base" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(_text(middle, HEIGHT - 6, x.title, "middle", "title"))
    parts.append(
        f'<text class="title" transform="translate(12 {(TOP + base) / 2:.0f}) rotate(-90)" '
        f'text-anchor="middle">{escape(y.title)}</text>'
    )
    return "".join(parts)


def _dot(x: Axis, y: Axis, dot: Dot, taken: list[tuple[float, float]]) -> str:
    cx, cy = _x(x, dot.x), _y(y, dot.y)
    css = f"dot {dot.css}{' hollow' if dot.hollow else ''}"
    circle = (
        f'<circle class="{css}" cx="{cx:.1f}" cy="{cy:.1f}" r="{dot.radius:.1f}">'
        f"<title>{escape(dot.tip)}</title></circle>"
    )
    if not dot.label:
        return circle
    at = cy - dot.radius - 5
    while (
        any(abs(at - oy) < 13 and abs(cx - ox) < 6.2 * len(dot.label) for ox, oy in taken) and at > TOP + 12
    ):
        at -= 13
    taken.append((cx, at))
    side = "end" if cx > WIDTH * 0.72 else "start" if cx < WIDTH * 0.28 else "middle"
    return circle + _text(cx, at, dot.label, side, "tip")


def _legend(lines: Sequence[Series]) -> str:
    if not lines:
        return ""
    items = "".join(f'<span><i class="{line.css}"></i>{escape(line.name)}</span>' for line in lines)
    return f'<p class="legend">{items}</p>'


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(floor(log10(low)), ceil(log10(high)) + 1)
    for multiples in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        found = [m * 10.0**p for p in powers for m in multiples if low <= m * 10.0**p <= high]
        if len(found) >= 3:
            return found
    return found


def _x(axis: Axis, value: float) -> float:
    return LEFT + axis.share(value) * (WIDTH - LEFT - RIGHT)


def _y(axis: Axis, value: float) -> float:
    return HEIGHT - BOTTOM - axis.share(value) * (HEIGHT - BOTTOM - TOP)
