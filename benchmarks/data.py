"""Clips per second of the data pipeline: decode, crop, patchify, batch.

python -m benchmarks.data --source demo:easy --grid 8x56 --workers 1,2
"""

import statistics
import time

from benchmarks.report import publish
from data_pipelines import loader
from data_pipelines.clips import clips
from data_pipelines.sources import catalog
from data_pipelines.sources.quarantine import BadVideos
from fluxjax.options import OptionParser
from fluxjax.tokens.grids import parse_grid


def main() -> None:
    """Measures and prints."""
    parser = OptionParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", default="demo:easy", help="as config.data.train")
    parser.add_argument("--data-dir", default=None)
    parser.add_argument("--grid", default="8x56")
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=10, help="batches a run")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", default=None, help="file to write")
    arguments = parser.parse_args()
    grid = parse_grid(arguments.grid)
    data = catalog.open_catalog(arguments.source, split="train", data_dir=arguments.data_dir)
    workers = [int(number) for number in arguments.workers.split(",")]
    rates: dict[int, list[float]] = {number: [] for number in workers}
    for repeat in range(arguments.repeats + 1):
        for number in workers:
            source = clips.TrainClips(
                data, [grid], seed=repeat, videos_per_batch=arguments.batch,
                slots=grid.tokens(), bad=BadVideos(0.0),
            )  # fmt: skip
            batches = loader.train_batches(source, 0, arguments.steps + 1, workers=number)
            next(batches)  # starting the pipeline is not its speed
            start = time.perf_counter()
            count = sum(len(batch["label"]) for batch in batches)
            if repeat:  # the first turn warms the file cache up
                rates[number].append(count / (time.perf_counter() - start))
    rows = [
        {"workers": number, "clips/s": f"{statistics.median(r):.1f}",
         "range": f"{min(r):.1f} to {max(r):.1f}"}
        for number, r in rates.items()
    ]  # fmt: skip
    publish(f"{arguments.source} at {grid}, {arguments.repeats} interleaved runs of "
            f"{arguments.steps} batches of {arguments.batch}", rows, arguments.json)  # fmt: skip


if __name__ == "__main__":
    main()
