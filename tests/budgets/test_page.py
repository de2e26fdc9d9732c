"""report.html: in a real browser where there is one, and that it needs no network."""

import base64
import io
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from fluxjax.budgets.figures import accuracy_figure, save_figure, svg
from fluxjax.budgets.html import html_report
from fluxjax.budgets.pictures import Picture
from tests.budgets.reports import POINTS, REPORT

WIDTH, HEIGHT = 1100, 3200
NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next((shutil.which(name) for name in NAMES if shutil.which(name)), None)
# Where the figures are on the page: added to a copy of the report, which has no script itself.
MEASURE = """<script>
document.body.dataset.boxes = JSON.stringify([...document.querySelectorAll("figure img")].map(
  i => [i.parentNode.className, i.complete && i.naturalWidth > 0, ...Object.values(
    i.getBoundingClientRect().toJSON()).slice(0, 4)]));
</script>"""


def page():
    plots = {f"plot {cost}": svg(accuracy_figure(POINTS, cost)) for cost in ("gmacs", "latency_ms")}
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
    sources = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert len(sources) == 4 and all(source.startswith("data:image/") for source in sources)
    assert "<script" not in text and "@import" not in text
    assert text.count("<tr") == 1 + len(POINTS)
    assert "clip &lt;1&gt;" in text and "up &amp; down" in text and "<1>" not in text
    assert text.count("<h3>") == 1, "pictures of one clip share their title"
    for source in sources[:2]:
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
