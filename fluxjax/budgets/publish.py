"""From a report's points to figures, pictures and report.html."""

import pathlib
from collections.abc import Mapping

import numpy as np

from data_pipelines.sources.catalog import Catalog
from fluxjax.budgets.figures import accuracy_figure, curve, figure_variants, save_figure
from fluxjax.budgets.html import html_report
from fluxjax.budgets.pictures import clip_pictures
from fluxjax.budgets.points import Report
from fluxjax.evaluation.machine import same_machine
from fluxjax.evaluation.tables import replace_text
from fluxjax.serving.checkpoint import Checkpoint
from fluxjax.serving.programs import Programs
from fluxjax.serving.settings import MERGING

_PLOTS = {
    "gmacs": "Top-1 against GMACs; bars are 95 % intervals, faint points other grids, labels "
    "GRID:BUDGET",
    "latency_ms": "Top-1 against the time of one view alone on the machine above",
}


def publish(
    report: Report,
    checkpoint: Checkpoint,
    catalog: Catalog,
    sampling: str,
    folder: pathlib.Path,
    num_pictures: int,
    beside: Mapping[str, Report] | None = None,
) -> pathlib.Path:
    """Writes report.html, and the plots and pictures also as files under figures/.

    Args:
      report: of a sweep of the checkpoint on the catalog.
      checkpoint: that was measured.
      catalog: whose clips are shown.
      sampling: name of the frame sampler.
      folder: to write to.
      num_pictures: clips to show, evenly chosen.
      beside: name -> report of another model on the same data, shown on the same page; times of
        another machine are left out.

    Returns:
      The page.
    """
    figures, plots, beside = folder / "figures", {}, beside or {}
    for cost, caption in _PLOTS.items():
        others = {name: other.points for name, other in beside.items()
                  if cost == "gmacs" or same_machine(other.machine, report.machine)}  # fmt: skip
        save_figure(accuracy_figure(report.points, cost, others), figures, f"top1_{cost}")
        plots[caption] = figure_variants(report.points, cost, others)
    shown = [point.setting for method in ("group_dynamic", "places", *MERGING)
             for point in curve(report.points, method, "budget")[::-1]]  # fmt: skip
    count = min(num_pictures, len(catalog))
    indices = np.linspace(0, len(catalog) - 1, count).round().astype(int).tolist()
    programs = Programs(checkpoint.model, checkpoint.variables)
    pictures = clip_pictures(
        catalog, indices, programs, shown, sampling, checkpoint.labels, checkpoint.places
    )
    for number, picture in enumerate(pictures):
        (figures / f"kept_{number}.png").write_bytes(picture.png)
    page = folder / "report.html"
    replace_text(page, html_report(report, plots, pictures, beside))
    return page
