"""report.html: in a real browser where there is one, and that it needs no network."""

import base64
import dataclasses
import io
import itertools
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from fluxjax.budgets.figures import accuracy_figure, curve, figure_variants, save_figure
from fluxjax.budgets.headline import headline
from fluxjax.budgets.html import html_report
from fluxjax.budgets.pictures import Picture
from fluxjax.budgets.point_labels import label_points
from fluxjax.serving.settings import METHODS
from tests.budgets.realistic import REALISTIC
from tests.budgets.reports import POINTS, REPORT, SUBJECT

WIDTH, HEIGHT = 1100, 3200
NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next((shutil.which(name) for name in NAMES if shutil.which(name)), None)
# Where the figures are on the page: added to a copy of the report, which has no script itself.
MEASURE = """<script>
document.body.dataset.boxes = JSON.stringify([...document.querySelectorAll("figure img")].map(
  i => [i.closest("figure").className, i.complete && i.naturalWidth > 0, ...Object.values(
    i.getBoundingClientRect().toJSON()).slice(0, 4)]));
</script>"""


def page():
    plots = {f"plot {cost}": figure_variants(POINTS, cost) for cost in ("gmacs", "latency_ms")}
    pixels = np.random.default_rng(0).integers(0, 256, (40, 120, 3), np.uint8)
    png = png_bytes(pixels)
    pictures = [Picture("clip <1>", f"{b} tokens: up & down", png) for b in (48, 12)]
    return html_report(REPORT, plots, pictures)


def png_bytes(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_the_page_is_whole_and_needs_no_network():
    text = page()
    sources = re.findall(r'(?:src|href|srcset)="([^"]*)"', text)
    assert len(sources) == 2 * 4 + 2 and all(source.startswith("data:image/") for source in sources)
    assert "<script" not in text and "@import" not in text
    assert text.count("<tr") == 1 + len(POINTS)
    assert "clip &lt;1&gt;" in text and "up &amp; down" in text and "<1>" not in text
    assert text.count("<h3>") == 1, "pictures of one clip share their title"
    for source in sources[:8]:
        drawing = base64.b64decode(source.partition("base64,")[2])
        ET.fromstring(drawing)
        outside = re.findall(rb'(?:href|src)="(?!#)([^"]*)"', drawing)
        assert not [x for x in outside if not x.startswith(b"data:")], "a link out of the file"


def test_figures_show_every_method_and_are_the_same_every_time(tmp_path):
    figure = accuracy_figure(POINTS, "gmacs")
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(labels) == 5 and any("Token Optimization" in label for label in labels)
    save_figure(figure, tmp_path, "a")
    save_figure(accuracy_figure(POINTS, "gmacs"), tmp_path, "b")
    for kind in ("svg", "png"):
        one, two = ((tmp_path / f"{name}.{kind}").read_bytes() for name in "ab")
        assert one == two, kind
    assert np.asarray(Image.open(tmp_path / "a.png").convert("L")).std() > 10


def test_the_page_follows_the_screen_and_hides_what_matters_less():
    text = page()
    media = re.findall(r'<source media="([^"]*)"', text)
    assert len(media) == 6 and sum("dark" in query for query in media) == 4
    assert sum("max-width" in query for query in media) == 4
    assert 'type="checkbox" id="all">' in text and "#all:not(:checked)" in text
    assert text.count('class="more"') == 4 * (1 + len(POINTS))
    assert "position: sticky" in text
    for name, value in SUBJECT.items():
        assert f"<dt>{name}</dt><dd>{value}</dd>" in text
    dated = html_report(REALISTIC, {}, [])
    for value in REALISTIC.made.values():
        assert value in dated


def test_the_headline_says_what_to_run():
    assert headline(REALISTIC.points) == (
        "Run 6x56, 24 tokens (group_dynamic): 92.7% of 96 videos, 0.0265 GMACs, 1.06 ms a view. "
        "With 96 videos no setting is significantly more accurate; the most accurate one, 8x56, "
        "128 tokens (all) with 97.9%, costs 5 times the GMACs. Within fewer tokens: 8x56, 12 "
        "tokens (group_dynamic) with 86.5%."
    )
    many = [dataclasses.replace(p, videos=9600) for p in REALISTIC.points]
    text = headline(many)
    assert text.startswith("Run 8x56, 128 tokens (all)") and "every cheaper one is" in text
    # 96 and 72 tokens of smaller grids are no better than 48 selected ones.
    assert text.endswith(
        " Within fewer tokens: 8x56, 48 tokens (group_dynamic) with 96.9%; 8x56, 24 tokens "
        "(group_dynamic) with 93.8%; 8x56, 12 tokens (group_dynamic) with 86.5%."
    )
    random = [dataclasses.replace(POINTS[0], method="random")]
    assert "Only random selections" in headline(random)


@pytest.mark.parametrize("cost", ["gmacs", "latency_ms"])
@pytest.mark.parametrize("narrow", [False, True])
def test_labels_cover_no_point_and_no_other_label(cost, narrow):
    points = REALISTIC.points
    figure = accuracy_figure(points, cost, narrow=narrow)
    figure.draw_without_rendering()
    axes, renderer = figure.axes[0], FigureCanvasAgg(figure).get_renderer()
    boxes = {note: note.get_window_extent(renderer) for note in axes.texts}
    wanted = {f"{p.grid}:{p.budget}" for m in METHODS for p in curve(points, m, cost)}
    assert len(boxes) >= 13 and {note.get_text() for note in boxes} <= wanted
    for one, two in itertools.combinations(boxes.values(), 2):
        assert not one.overlaps(two)
    places = axes.transData.transform([(getattr(p, cost), 100 * p.top1) for p in points])
    for note, box in boxes.items():
        assert not box.count_contains(places), note.get_text()
        assert axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1
        assert axes.bbox.y0 <= box.y0 and box.y1 <= axes.bbox.y1


def test_labels_without_room_are_left_out():
    figure = Figure(figsize=(1.5, 1.5))
    axes = figure.add_subplot()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    crowd = [(0.5, 0.5, f"8x56:{i}", "k") for i in range(40)]
    left_out = label_points(axes, crowd, [(0.5, 0.5)], [])
    assert 0 < left_out < 40 and len(axes.texts) == 40 - left_out


def browser(path, *options):
    fixed = [
        "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
        "--enable-logging=stderr", "--host-resolver-rules=MAP * ~NOTFOUND",  # no network
        f"--window-size={WIDTH},{HEIGHT}", f"--user-data-dir={path.parent / 'profile'}",
    ]  # fmt: skip
    command = [BROWSER, *fixed, *options, path.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=180)


@pytest.mark.slow
@pytest.mark.skipif(
    BROWSER is None, reason="no Chromium on this machine (apt-get install chromium)"
)
def test_the_report_in_chromium(tmp_path):
    report, copy = tmp_path / "report.html", tmp_path / "measured.html"
    report.write_text(page())
    copy.write_text(page().replace("</body>", MEASURE + "</body>"))
    shot = tmp_path / "shot.png"
    seen = browser(report, f"--screenshot={shot}")
    assert seen.returncode == 0 and shot.exists(), seen.stderr
    assert "CONSOLE" not in seen.stderr, seen.stderr
    dump = browser(copy, "--dump-dom", "--virtual-time-budget=5000").stdout
    boxes = json.loads(re.search(r'data-boxes="([^"]*)"', dump)[1].replace("&quot;", '"'))
    assert [kind for kind, *_ in boxes] == ["plot", "plot", "picture", "picture"]
    pixels = np.asarray(Image.open(shot).convert("RGB"), float)
    for kind, loaded, x, y, width, height in boxes:
        assert loaded and width > 100 and y + height < HEIGHT, (kind, x, y, width, height)
        area = pixels[round(y) : round(y + height), round(x) : round(x + width)]
        share = (np.abs(area - 255).max(-1) > 30).mean()
        assert share > 0.01 and area.std() > 10, f"a blank {kind}: {share:.2%} of it is drawn"
