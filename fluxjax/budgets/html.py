"""The report as one HTML file that needs nothing else: no network, no script."""

import base64
import html
from collections.abc import Mapping, Sequence
from itertools import groupby

from fluxjax.budgets.headline import headline
from fluxjax.budgets.page_style import STYLE
from fluxjax.budgets.pictures import Picture
from fluxjax.budgets.points import Point, Report, pareto

_FIRST = ("date", "command", "checkpoint", "model", "data", "split", "videos")  # of the facts
_TOP1 = (
    "<p>Top-1 with its 95 % interval; milliseconds are the median of one view alone; "
    "shaded: no other setting is as accurate with fewer GMACs. "
    "“Significantly” is a two-proportion test at 5 % on the number of videos.</p>"
)
_KEPT = (
    "<h2>What is kept</h2><p>Tokens that go through the transformer are lit and outlined, dropped "
    "ones dimmed; tokens that are merged into one share a tint.</p>"
)


def html_report(
    report: Report,
    plots: Mapping[str, Mapping[str, bytes]],
    pictures: Sequence[Picture],
    beside: Mapping[str, Report] | None = None,
) -> str:
    """The whole page.

    Args:
      report: of a sweep.
      plots: caption -> its variants, see `figures.figure_variants`.
      pictures: rows of frames, those of one clip one after the other.
      beside: name -> report of another model on the same data.
    """
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>Token Optimization report</title><style>{STYLE}</style></head><body>",
        "<h1>Accuracy against budget</h1>",
        f'<p class="headline">{_text(headline(report.points))}</p>',
        *_facts(report),
        "<h2>Curves</h2>",
        *(_plot(caption, variants) for caption, variants in plots.items()),
        f"<h2>Table</h2>{_TOP1}",
        '<input type="checkbox" id="all"><label for="all">all columns</label>',
        _table(report.points),
    ]
    for name, other in (beside or {}).items():
        parts += [f"<h2>Beside it: {_text(name)}</h2>", f"<p>{_text(headline(other.points))}</p>"]
        parts += [*_facts(other), _table(other.points)]
    if pictures:
        parts.append(_KEPT)
    for title, rows in groupby(pictures, key=lambda picture: picture.title):
        parts.append(f"<h3>{_text(title)}</h3>")
        parts += [_figure(row.caption, _image(row.caption, row.png), "picture") for row in rows]
    return "\n".join([*parts, "</body></html>\n"])


def _facts(report: Report) -> list[str]:
    """What was measured, when and how; the rest of it and the machine folded away."""
    facts = {**report.made, **report.subject}
    first = {name: facts[name] for name in _FIRST if name in facts}
    rest = {name: value for name, value in facts.items() if name not in first}
    machine = {f"machine {name}": value for name, value in report.machine.items()}
    more = f"<details><summary>Machine and views</summary>{_list(rest | machine)}</details>"
    return [_list(first), more]


def _list(facts: Mapping[str, object]) -> str:
    rows = (f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in facts.items())
    return f"<dl>{''.join(rows)}</dl>"


def _plot(caption: str, variants: Mapping[str, bytes]) -> str:
    sources = "".join(
        f'<source media="{media}" srcset="{_data(drawing, "svg+xml")}">'
        for media, drawing in variants.items()
        if media
    )
    image = f'<img alt="{_text(caption)}" src="{_data(variants[""], "svg+xml")}">'
    return _figure(caption, f"<picture>{sources}{image}</picture>", "plot")


def _image(caption: str, png: bytes) -> str:
    return f'<img alt="{_text(caption)}" src="{_data(png, "png")}">'


def _figure(caption: str, image: str, role: str) -> str:
    return f'<figure class="{role}">{image}<figcaption>{_text(caption)}</figcaption></figure>'


def _data(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _table(points: Sequence[Point]) -> str:
    """A row a point; the cells of class "more" show once the box is ticked."""
    heads = ("budget", "grid", "method", "GMACs", "top-1", "ms")
    more = ("ms, 10–90 %", "top-5", "head", "views/s")
    best = set(pareto(points, "gmacs"))
    body = []
    for p in sorted(points, key=lambda p: (-p.budget, -p.top1, p.gmacs)):
        top1 = f"{p.top1:.1%} <small>{100 * p.top1_low:.1f}–{100 * p.top1_high:.1f}</small>"
        method = _text(p.method).replace("_", "_<wbr>").replace("+", "+<wbr>")
        cells = (p.budget, p.grid, method, f"{p.gmacs:.3g}", top1, f"{p.latency_ms:.2f}")
        extra = (f"{p.latency_low_ms:.2f}–{p.latency_high_ms:.2f}", f"{p.top5:.1%}", p.head,
                 f"{p.clips_per_second:.1f}")  # fmt: skip
        shade = ' class="best"' if p in best else ""
        body.append(f"<tr{shade}>{_cells('td', cells)}{_cells('td', extra, 'more')}</tr>")
    head = f"<tr>{_cells('th', heads)}{_cells('th', more, 'more')}</tr>"
    table = f"<table><thead>{head}</thead><tbody>{''.join(body)}</tbody></table>"
    return f'<div class="wide">{table}</div>'


def _cells(tag: str, cells: Sequence[object], kind: str = "") -> str:
    opening = f'<{tag} class="{kind}">' if kind else f"<{tag}>"
    return "".join(f"{opening}{cell}</{tag}>" for cell in cells)


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        value = ", ".join(map(str, value))
    return html.escape(str(value))
