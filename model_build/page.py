"""The report's page: one HTML file without a single outside reference, legible in light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

CSS = """
:root{--bg:#f7f7f5;--card:#fff;--ink:#1c2024;--dim:#667078;--rule:#e3e5e8;--grid:#eceef0;--accent:#0b6e4f;
--s0:#2563b0;--s1:#c2571a;--s2:#0b8a6b;--s3:#8a4fbf;--good:#0b7a53;--bad:#b3261e;--band:#0b8a6b22}
@media(prefers-color-scheme:dark){:root{--bg:#14171a;--card:#1c2126;--ink:#e8eaed;--dim:#9aa5ae;
--rule:#30373d;--grid:#2a3036;--accent:#4cc79c;--s0:#6ea8f7;--s1:#f0955a;--s2:#4cc79c;--s3:#c39af0;
--good:#5fd3a6;--bad:#f28b82;--band:#4cc79c22}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);
font:15px/1.5 system-ui,Roboto,Helvetica,Arial,sans-serif}
main{max-width:1180px;margin:0 auto;padding:36px 24px 64px}
h1{font-size:32px;line-height:1.2;margin:0;letter-spacing:-.02em}h2{font-size:17px;margin:0 0 4px}
.lede{font-size:17px;max-width:76ch;margin:10px 0 24px}
.note{color:var(--dim);font-size:13.5px;margin:0 0 12px}
.kicker{color:var(--accent);font-weight:600;font-size:13px;letter-spacing:.06em;text-transform:uppercase;
margin:0 0 6px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(170px,1fr));gap:12px;margin:0 0 16px}
.tile,.card{background:var(--card);border:1px solid var(--rule);border-radius:12px}
.tile{padding:14px 16px}.tile span{color:var(--dim);font-size:13px}
.tile b{display:block;font-size:25px;letter-spacing:-.02em;font-variant-numeric:tabular-nums}
.tile em{display:block;font-style:normal;font-size:13px;color:var(--good)}
.grid2{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr));gap:16px;
margin:0 0 16px}
.card{padding:18px 20px;margin:0 0 16px;overflow-x:auto}.grid2 .card{margin:0}
svg{width:100%;height:auto;display:block}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:14px}
th,td{padding:7px 14px 7px 0;text-align:right;border-bottom:1px solid var(--rule);white-space:nowrap}
th{color:var(--dim);font-weight:500;font-size:13px}td:first-child,th:first-child{text-align:left}
td.words,th.words{text-align:left;white-space:normal;min-width:220px;color:var(--dim);font-size:13.5px}
tr.chosen td{font-weight:650}tr.chosen td:first-child{color:var(--accent)}tr:last-child td{border-bottom:0}
text{fill:var(--dim);font:11.5px system-ui,Roboto,Helvetica,Arial,sans-serif}
text.tip{fill:var(--ink);font-weight:600}text.cell{fill:var(--ink);font-size:11px}
text.cell.strong{fill:var(--card)}
.grid{stroke:var(--grid)}.base{stroke:var(--rule)}.band{fill:var(--band)}
.line{fill:none;stroke-width:2;stroke-linejoin:round}
.line.s0{stroke:var(--s0)}.line.s1{stroke:var(--s1)}.line.s2{stroke:var(--s2)}.line.s3{stroke:var(--s3)}
.line.front{stroke:var(--dim);stroke-width:1.2}
.dot{stroke:var(--card);stroke-width:1.5;fill-opacity:.9}
.dot.s0{fill:var(--s0)}.dot.s1{fill:var(--s1)}.dot.s2{fill:var(--s2)}.dot.s3{fill:var(--s3)}
.dot.mark{fill:var(--accent);stroke:var(--ink);stroke-width:2;fill-opacity:1}
.dot.hollow{fill-opacity:.16;stroke:none}.hit{fill:var(--s2)}.miss{fill:var(--bad)}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;margin:8px 0 0;color:var(--dim);font-size:13px}
.legend i{display:inline-block;width:14px;height:3px;border-radius:2px;margin:0 6px 3px 0}
i.s0{background:var(--s0)}i.s1{background:var(--s1)}i.s2{background:var(--s2)}i.s3{background:var(--s3)}
i.front{background:var(--dim)}
footer{color:var(--dim);font-size:13px;margin-top:28px}
@media print{body{background:#fff}.card,.tile{break-inside:avoid}}
"""


def page(title: str, body: str) -> str:
    """The whole file."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head>\n<body><main>\n{body}\n</main></body></html>\n"
    )


def card(title: str, note: str, content: str) -> str:
    """A titled box; `note` says how to read it."""
    head = f'<h2>{escape(title)}</h2><p class="note">{escape(note)}</p>'
    return f'<section class="card">{head}{content}</section>\n'


def pair(*cards: str) -> str:
    """Cards side by side where there is room."""
    return f'<div class="grid2">{"".join(cards)}</div>\n'


def tiles(entries: Sequence[tuple[str, str, str]]) -> str:
    """Key numbers: (value, what it is, how it compares)."""
    cells = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(what)}</span><em>{escape(versus)}</em></div>'
        for value, what, versus in entries
    )
    return f'<div class="tiles">{cells}</div>\n'


def table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], chosen: int | None = None, words: int = -1
) -> str:
    """A table of text cells; `chosen`: the row to stress, `words`: the column that holds sentences."""

    def cell(tag: str, index: int, text: str) -> str:
        css = ' class="words"' if index == words else ""
        return f"<{tag}{css}>{escape(text)}</{tag}>"

    head = "".join(cell("th", index, text) for index, text in enumerate(headings))
    lines = [
        f"<tr{' class=chosen' if number == chosen else ''}>"
        + "".join(cell("td", index, text) for index, text in enumerate(row))
        + "</tr>"
        for number, row in enumerate(rows)
    ]
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
