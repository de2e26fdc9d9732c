"""The report as one HTML file that needs nothing else: no network, no script."""

import base64
import html
from collections.abc import Mapping, Sequence
from itertools import groupby

from fluxjax.budgets.pictures import Picture
from fluxjax.budgets.points import Point, Report, pareto

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62em; margin: 2em auto; padding: 0 1em;
       color: #222; background: #fff; }
h1 { font-size: 1.6em; } h2 { font-size: 1.25em; margin-top: 2em; } h3 { font-size: 1em; }
figure { margin: 1em 0; } figure img { max-width: 100%; } figcaption { color: #555; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
th, td { padding: .2em .7em; text-align: right; white-space: nowrap;
         border-bottom: 1px solid #ddd; }
tr.best td { background: #fff4ea; } dt { float: left; clear: left; width: 12em; color: #555; }
dd { margin-left: 12em; }
"""


def html_report(report: Report, plots: Mapping[str, bytes], pictures: Sequence[Picture]) -> str:
    """The whole page.

    Args:
      report: of a sweep.
      plots: caption -> SVG file.
      pictures: rows of frames, those of one clip one after the other.
    """
    facts = {**report.subject, **{f"machine {k}": v for k, v in report.machine.items()}}
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>Token Optimization report</title><style>{_STYLE}</style></head><body>",
        "<h1>Accuracy against budget</h1><dl>",
        *(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in facts.items()),
        "</dl><h2>Curves</h2>",
        *(_figure(caption, svg, "image/svg+xml", "plot") for caption, svg in plots.items()),
        "<h2>Table</h2><p>Shaded: no other setting is as accurate with fewer GMACs.</p>",
        _table(report.points),
    ]
    if pictures:
        parts.append("<h2>What is kept</h2><p>Tokens that go through the transformer are lit and "
                     "outlined, dropped ones dimmed; tokens that are merged into one share a tint."
                     "</p>")  # fmt: skip
    for title, rows in groupby(pictures, key=lambda picture: picture.title):
        parts.append(f"<h3>{_text(title)}</h3>")
        parts += [_figure(row.caption, row.png, "image/png", "picture") for row in rows]
    return "\n".join([*parts, "</body></html>\n"])


def _figure(caption: str, data: bytes, kind: str, role: str) -> str:
    source = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    return (
        f'<figure class="{role}"><img alt="{_text(caption)}" src="{source}">'
        f"<figcaption>{_text(caption)}</figcaption></figure>"
    )


def _table(points: Sequence[Point]) -> str:
    heads = ("budget", "grid", "method", "head", "GMACs", "top-1 (95 % interval)", "top-5",
             "ms a view (10 to 90 %)", "views/s")  # fmt: skip
    best = set(pareto(points, "gmacs"))
    rows = [
        (
            "best" if p in best else "",
            (
                p.budget,
                p.grid,
                p.method,
                p.head,
                f"{p.gmacs:.3g}",
                f"{p.top1:.1%} ({p.top1_low:.1%} to {p.top1_high:.1%})",
                f"{p.top5:.1%}",
                f"{p.latency_ms:.2f} ({p.latency_low_ms:.2f} to {p.latency_high_ms:.2f})",
                f"{p.clips_per_second:.1f}",
            ),
        )
        for p in sorted(points, key=lambda p: (-p.budget, -p.top1, p.gmacs))
    ]
    head = "".join(f"<th>{name}</th>" for name in heads)
    body = "".join(
        f'<tr class="{kind}">' + "".join(f"<td>{_text(cell)}</td>" for cell in cells) + "</tr>"
        for kind, cells in rows
    )
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        value = ", ".join(map(str, value))
    return html.escape(str(value))
