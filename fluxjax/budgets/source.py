"""The videos of a sweep: from the command's options, or from what the run was tested on."""

import argparse
import dataclasses
import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from data_pipelines import loader
from data_pipelines.clips.examples import EvalExamples, Item
from data_pipelines.sources.catalog import Catalog, open_catalog
from data_pipelines.sources.presence import check_files
from data_pipelines.sources.quarantine import BadVideos
from data_pipelines.sources.rows import some
from fluxjax.serving.checkpoint import Checkpoint
from fluxjax.serving.settings import budgets_of, takes_frames
from fluxjax.tokens.examples import ClipSpec, ExampleSpec, packed
from fluxjax.tokens.grids import Grid, parse_grid

PLAIN_FRAMES = (4, 8, 16)  # of grids within a budget, where no run says which frames it knows


@dataclasses.dataclass(frozen=True)
class SweepData:
    """What is read, and how.

    Attributes:
      catalog: the videos.
      source, split: what they are called.
      checkpoint: that is measured.
      sampling: name of the frame sampler.
      options: clips, crops, batch_size, workers, max_bad_share.
    """

    catalog: Catalog
    source: str
    split: str
    checkpoint: Checkpoint
    sampling: str
    options: argparse.Namespace

    @classmethod
    def open(cls, options: argparse.Namespace, checkpoint: Checkpoint) -> "SweepData":
        """Opens the data of the options; what they leave open is the run's.

        Raises:
          ValueError: if nothing says which data, they do not fit the model, or none of those that
            are looked for is there.
          FileNotFoundError: if they do not exist.
        """
        known = {} if checkpoint.config is None else checkpoint.config["data"]
        source = options.data or known.get("test")
        if not source:
            raise ValueError(f"{checkpoint.folder} belongs to no run; pass --data")
        # Where the data are others, what is known of the run's own does not apply.
        known = {} if options.data else known
        split = options.split or known.get("test_split") or "test"
        root = options.root or known.get("root") or ""
        sampling = checkpoint.sampling(options.sampling)
        catalog = open_catalog(
            source,
            split=split,
            data_dir=options.data_dir or known.get("dir"),
            root=root,
            separator=options.separator or known.get("separator"),
            num_classes=checkpoint.model.num_classes,
            classes=tuple(known.get("classes", ())),
            label_names=None if known.get("classes") else checkpoint.labels,
        )
        if options.videos is not None and not 1 <= options.videos <= len(catalog):
            raise ValueError(f"--videos={options.videos}; there are 1 to {len(catalog)}")
        catalog = some(catalog, options.videos)
        check_files(catalog, "data.test", source, root)
        return cls(catalog, source, split, checkpoint, sampling, options)

    @property
    def num_videos(self) -> int:
        """Videos that are counted."""
        return len(self.catalog)

    def batches(self, grid: Grid, first_batch: int = 0) -> Iterator[Item]:
        """Every video on one grid, each clip with exactly its tokens, or dense."""
        model, options = self.checkpoint.model, self.options
        if takes_frames(model):
            spec = ExampleSpec((ClipSpec((grid,)),))
        else:
            spec = packed((grid,), grid.tokens(model.patch), model.patch)
        clips = EvalExamples(
            self.catalog,
            spec,
            BadVideos(options.max_bad_share, videos=self._left(first_batch)),
            self.sampling,
            options.clips,
            options.crops,
            places=self.checkpoint.places,
        )
        return loader.eval_batches(
            clips, options.batch_size, workers=options.workers, first_batch=first_batch
        )

    def _left(self, first_batch: int) -> int:
        """Videos from a batch on."""
        return max(self.num_videos - first_batch * self.options.batch_size, 0)

    def subject(self) -> dict[str, Any]:
        """What was measured, for `points.Report`."""
        return {
            "checkpoint": weights_digest(self.checkpoint.variables),
            "model": type(self.checkpoint.model).__name__,
            "data": self.source,
            "split": self.split,
            "videos": self.num_videos,
            "sampling": self.sampling,
            "clips": self.options.clips,
            "crops": self.options.crops,
        }

    def default_budgets(self) -> tuple[int, ...]:
        """Those the model was trained for, or those of the run's evaluation."""
        model, usage = self.checkpoint.model, self.checkpoint.usage
        if takes_frames(model) or hasattr(model, "budgets"):
            return budgets_of(model)
        return () if usage is None else usage.budgets

    def default_grids(self, budgets: Sequence[int]) -> list[Grid]:
        """The grids of the run's evaluation, and for each budget the largest grid within it.

        The latter show what each budget gives without dropping tokens; of dense clips there are
        none.

        Raises:
          ValueError: where nothing is known of the evaluation.
        """
        usage, model = self.checkpoint.usage, self.checkpoint.model
        if usage is None:
            raise ValueError(
                f"{self.checkpoint.folder} does not say on which grids it was evaluated; pass "
                "--grids, e.g. --grids 4x224,8x224,16x224"
            )
        grids = [parse_grid(text) for text in usage.grids]
        if takes_frames(model):
            return grids
        frames = usage.frames or PLAIN_FRAMES
        return grids + [plain_grid(budget, frames, model.patch) for budget in budgets]


def plain_grid(budget: int, frames: Sequence[int], patch: int) -> Grid:
    """The grid with the most tokens within a budget, of these numbers of frames."""
    fitting = [
        Grid(count, math.isqrt(budget // count) * patch) for count in frames if count <= budget
    ] or [Grid(1, math.isqrt(budget) * patch)]
    return max(fitting, key=lambda grid: (grid.tokens(patch), grid.resolution))


def weights_digest(variables: Any) -> str:
    """Sixteen hexadecimal digits of the SHA-256 of all weights."""
    digest = hashlib.sha256()
    for path, value in jax.tree_util.tree_leaves_with_path(variables):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()[:16]
