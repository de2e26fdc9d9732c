"""Pictures of what a masked autoencoder fills in: clips, what it saw of them, what it made."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from fluxjax.evaluation.base import Column, EvalData, Table, scalar_name
from fluxjax.evaluation.passes import Passes
from fluxjax.tasks.base import Plan, Task

GAP = 4  # white pixels between videos
FRAMES = 4  # of each video, evenly spaced

COLUMNS = (
    Column("video", lambda row: str(row["video"])),
    Column("grid", lambda row: row["grid"]),
    Column("mean difference", lambda row: f"{row['difference']:.1f} of 255"),
)


class Reconstructions:
    """`task.reconstructions` of a few test videos on the first of `config.eval.grids`.

    Three rows of frames a video: as it is, what is shown to the encoder, what the decoder fills in.
    """

    name, splits = "reconstructions", ("test",)

    def __init__(self, task: Task, mesh: jax.sharding.Mesh, data: EvalData):
        """Plans the picture; nothing is compiled or read yet."""
        self._task, self._passes = task, Passes(task, mesh, data)

    @staticmethod
    def scalars(task: Task) -> dict[str, bool]:
        """difference@GRID; less is better."""
        return {scalar_name("difference", None, task.config.eval.grids[0]): False}

    def run(self, variables: Any) -> Table:
        """A row a video, and the picture."""
        grid = self._passes.grids()[0]
        plan = next(iter(self._task.eval_plans(grid).values()))
        count = self._task.config.reconstruct.pictures
        run = self._passes.run(self._first_views, {"x": plan}, grid, variables, "test", count)
        parts = [outputs["x"].value for outputs in run]
        weight, readable, videos = (np.concatenate(part) for part in zip(*parts, strict=True))
        videos = videos[(weight > 0) & readable]
        differences = np.mean(np.abs(videos[:, 2] - videos[:, 0]), axis=(1, 2, 3, 4))
        rows = tuple(
            {"video": i, "grid": str(grid), "difference": float(x)}
            for i, x in enumerate(differences)
        )
        return Table(
            name=self.name,
            file=self.name,
            title=f"what is filled in of {len(videos)} held-out videos, see {self.name}.png",
            columns=COLUMNS,
            rows=rows,
            scalars={scalar_name("difference", None, grid): float(np.mean(differences))},
            videos=len(videos),
            picture=picture_of(videos),
        )

    def _first_views(self, variables: Any, batch: Mapping[str, jax.Array], plan: Plan) -> tuple:
        clips, videos, views = self._passes.merged(batch)
        first = {name: x.reshape(videos, views, *x.shape[1:])[:, 0] for name, x in clips.items()}
        first["example"] = batch["example"]
        made = self._task.reconstructions(variables, first, plan)
        return batch["weight"], batch["readable"], made


def picture_of(videos: np.ndarray) -> np.ndarray:
    """Videos [V, rows, T, H, W, 3] of 0 to 255 -> one picture [height, width, 3] uint8.

    Videos stand side by side, each with its rows of `FRAMES` frames.
    """
    frames = np.linspace(0, videos.shape[2] - 1, min(FRAMES, videos.shape[2])).round().astype(int)
    strips = np.concatenate([videos[:, :, i] for i in frames], axis=3)  # [V, rows, H, F*W, 3]
    strips = np.pad(strips, ((0, 0), (0, 0), (0, GAP), (0, GAP), (0, 0)), constant_values=255)
    columns = strips.reshape(len(strips), -1, *strips.shape[3:])
    return np.round(np.concatenate(list(columns), axis=1)).astype(np.uint8)
