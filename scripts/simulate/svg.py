"""A few charts as inline SVG, told apart by dash, shade and hatch: they survive a black and white print."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import floor, log10

Points = Sequence[tuple[float, float]]
WIDTH, HEIGHT = 480, 230
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 14, 44
NEAR_X, NEAR_Y = 34.0, 14.0
DASHES = ("", "7 4", "2 3", "10 3 2 3", "1 5", "14 4")
SHADES = ("#1b4965", "#5fa8d3", "#cae9ff", "#ee964b", "#8d99ae", "#f4d35e", "#6b705c", "#f28482", "#2b2d42")
HATCHES = ("", "M0 6L6 0", "M0 0L6 6", "M0 3H6", "M3 0V6", "M0 6L6 0M0 0L6 6", "M0 3H6M3 0V6", "M1 1h1", "")


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers that span a range."""
    if high <= low:
        return [low]
    raw = (high - low) / wanted
    base = 10.0 ** floor(log10(raw))
    step = next(base * factor for factor in (1, 2, 5, 10) if base * factor >= raw)
    first = step * -(-low // step)
    return [first + step * i for i in range(int((high - first) / step + 1e-9) + 1)]


class Chart:
    """A pair of axes with labels; series are added, `svg` closes it."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float], x_label: str, y_label: str) -> None:
        self._x, self._y = x, (y[0], y[1] if y[1] > y[0] else y[0] + 1.0)
        self._labels = (x_label, y_label)
        self._body: list[str] = []
        self._legend: list[tuple[str, str]] = []
        self._dots: list[tuple[float, float, str]] = []

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a point lies on the drawing."""
        (x0, x1), (y0, y1) = self._x, self._y
        across = (x - x0) / (x1 - x0) if x1 > x0 else 0.5
        return (
            round(LEFT + across * (WIDTH - LEFT - RIGHT), 1),
            round(HEIGHT - BOTTOM - (y - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM), 1),
        )

    def line(self, points: Points, name: str, kind: int, steps: bool = False) -> None:
        """A line; `kind` picks its dash and shade. With `steps` it keeps a value until the next."""
        path = ""
        for i, (x, y) in enumerate(points):
            px, py = self.at(x, y)
            path += f"M{px} {py}" if i == 0 else (f"H{px}V{py}" if steps else f"L{px} {py}")
        style = (
            f'fill="none" stroke="{SHADES[kind % 2 * 3]}" stroke-width="2" stroke-dasharray="{DASHES[kind]}"'
        )
        self._body.append(f'<path d="{path}" {style}/>')
        self._legend.append((f'<path d="M0 6H26" {style}/>', name))

    def stack(self, x: Sequence[float], layers: Sequence[tuple[str, Sequence[float]]]) -> None:
        """Layers that add up, each shaded and hatched in its own way."""
        below = [0.0] * len(x)
        for kind, (name, values) in enumerate(layers):
            above = [b + v for b, v in zip(below, values, strict=True)]
            there = " ".join("{},{}".format(*self.at(a, b)) for a, b in zip(x, above, strict=True))
            back = [self.at(a, b) for a, b in zip(x, below, strict=True)][::-1]
            outline = there + " " + " ".join(f"{a},{b}" for a, b in back)
            self._body.append(f'<polygon points="{outline}" {fill(kind)}/>')
            self._legend.append((f'<rect width="26" height="12" {fill(kind)}/>', name))
            below = above

    def rule(self, x: float, text: str) -> None:
        """A vertical line with a text beside it."""
        px, bottom = self.at(x, self._y[0])
        self._body.append(f'<path d="M{px} {TOP}V{bottom}" stroke="#000" stroke-dasharray="4 3"/>')
        side = "end" if px > WIDTH * 0.6 else "start"
        shift = -5 if side == "end" else 5
        self._body.append(f'<text x="{px + shift}" y="{TOP + 12}" text-anchor="{side}">{escape(text)}</text>')

    def dot(self, x: float, y: float, text: str) -> None:
        """A labelled point."""
        px, py = self.at(x, y)
        self._body.append(f'<circle cx="{px}" cy="{py}" r="4"/>')
        self._dots.append((px, py, text))

    def _dot_labels(self) -> list[str]:
        """The texts of the dots; those that lie too near to each other for two share one."""
        made, left = [], sorted(self._dots)
        while left:
            px, py, _ = left[0]
            near = [one for one in left if abs(one[0] - px) < NEAR_X and abs(one[1] - py) < NEAR_Y]
            left = [one for one in left if one not in near]
            text = escape(", ".join(text for _, _, text in self._dots if any(text == n[2] for n in near)))
            end = px > WIDTH * 0.6
            shift, side = (-8, "end") if end else (8, "start")
            made.append(f'<text x="{px + shift}" y="{py - 6}" text-anchor="{side}">{text}</text>')
        return made

    def svg(self, title: str) -> str:
        """The finished drawing; `title` is read out to those who cannot see it."""
        (x0, x1), (y0, y1) = self._x, self._y
        axes = [f'<path d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}" fill="none" stroke="#000"/>']
        for x in ticks(x0, x1, 6):
            px, py = self.at(x, y0)
            axes.append(f'<text x="{px}" y="{py + 15}" text-anchor="middle">{x:g}</text>')
        for y in ticks(y0, y1, 4):
            px, py = self.at(x0, y)
            axes.append(f'<path d="M{px} {py}H{WIDTH - RIGHT}" stroke="#bbb" stroke-width=".6"/>')
            axes.append(f'<text x="{px - 6}" y="{py + 4}" text-anchor="end">{y:g}</text>')
        middle = (LEFT + WIDTH - RIGHT) / 2
        axes.append(
            f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(self._labels[0])}</text>'
        )
        across = f'transform="translate(14,{(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle"'
        axes.append(f"<text {across}>{escape(self._labels[1])}</text>")
        return drawing("".join(axes + self._body + self._dot_labels()), HEIGHT, title) + legend(self._legend)


def fill(kind: int) -> str:
    """The fill attributes of the kind-th category."""
    return f'fill="url(#h{kind % len(SHADES)})" stroke="#000" stroke-width=".5"'


def patterns() -> str:
    """The definitions that `fill` refers to; once in a document."""
    made = ""
    for i, (shade, hatch) in enumerate(zip(SHADES, HATCHES, strict=True)):
        made += (
            f'<pattern id="h{i}" width="6" height="6" patternUnits="userSpaceOnUse">'
            f'<rect width="6" height="6" fill="{shade}"/>'
            f'<path d="{hatch}" stroke="{"#fff" if i == 0 else "#000"}" stroke-width=".9"/></pattern>'
        )
    return f'<svg width="0" height="0" style="position:absolute" aria-hidden="true"><defs>{made}</defs></svg>'


def drawing(body: str, height: int, title: str) -> str:
    """An SVG that scales to the width it is given."""
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{body}</svg>"
    )


def legend(entries: Sequence[tuple[str, str]]) -> str:
    """What the marks of a chart mean, below it."""
    frame = '<svg viewBox="0 0 26 12" width="26" height="12" aria-hidden="true">'
    items = "".join(f"<li>{frame}{mark}</svg> {escape(name)}</li>" for mark, name in entries)
    return f'<ul class="legend">{items}</ul>'


def bars(rows: Sequence[tuple[str, dict[str, float]]], unit: str, title: str) -> str:
    """Horizontal bars made of components, one a row, with the sum at their end."""
    names = list(dict.fromkeys(key for _, parts in rows for key, value in parts.items() if value > 0))
    most = max((sum(parts.values()) for _, parts in rows), default=1.0) or 1.0
    left, height = 140, 30 * len(rows) + 8
    body = ""
    for i, (label, parts) in enumerate(rows):
        x, y = float(left), 30 * i + 4
        body += f'<text x="{left - 6}" y="{y + 16}" text-anchor="end">{escape(label)}</text>'
        for kind, name in enumerate(names):
            width = parts.get(name, 0.0) / most * (WIDTH - left - 76)
            if width > 0.2:
                body += f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="22" {fill(kind)}/>'
                x += width
        body += f'<text x="{x + 5:.1f}" y="{y + 16}">{sum(parts.values()):,.2f}</text>'
    marks = [(f'<rect width="26" height="12" {fill(kind)}/>', name) for kind, name in enumerate(names)]
    return drawing(body, height, title) + legend([*marks, (" ", unit)])
