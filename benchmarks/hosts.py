"""What one process's data pipeline can do: threads, caches, short GOPs, and the interpreter lock.

    python -m benchmarks.hosts --grid 8x224 --workers 1,2 [--videos FOLDER]

Every row reads the same videos through the whole pipeline (decode, crop, scale, patchify, batch):
the originals, and what `python -m data_pipelines.prepare` makes of them with its own settings. With
a cache, the rate is that of later epochs. Without --videos, clips of Kinetics' size are encoded
first, with a key frame every 250 frames.

The share of time that the interpreter lock is held is measured by py-spy, where it is installed: it
looks at the process 200 times a second and counts how often a thread holds the lock. A process can
read no faster than its rate divided by that share, with any number of threads.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.readers import make_videos
from benchmarks.report import publish
from data_pipelines import loader
from data_pipelines.clips.examples import TrainExamples
from data_pipelines.prepare.__main__ import main as prepare
from data_pipelines.reading.folders import VIDEOS
from data_pipelines.reading.frame_cache import open_cache
from data_pipelines.sources.catalog import open_catalog
from data_pipelines.sources.quarantine import BadVideos
from fluxjax.options import OptionParser
from fluxjax.tokens.examples import packed
from fluxjax.tokens.grids import parse_grid

SAMPLES = 200  # a second, of py-spy
CACHES = ("off", "memory", "folder")


class Pipeline:
    """Batches of one source with one cache, as many as wanted."""

    def __init__(self, arguments, folder: pathlib.Path, names: list[str], cache: str, work: str):
        grid = parse_grid(arguments.grid)
        listed = pathlib.Path(work) / f"{folder.name}.txt"
        listed.write_text("".join(f"{name} 0\n" for name in names))
        where = {"off": "", "memory": "memory", "folder": f"{work}/frames/{folder.name}"}[cache]
        self._batch, self._step = arguments.batch, 0
        self._examples = TrainExamples(
            open_catalog(str(listed), split="train", root=str(folder), num_classes=2),
            packed((grid,), grid.tokens(), 14),
            seed=0,
            videos_per_batch=arguments.batch,
            bad=BadVideos(0.0),
            seconds=60.0,
            cache=open_cache(where, arguments.cache_gib),
        )
        if cache != "off":  # the epoch in which it is filled
            self.rate(max(1, -(-len(names) // arguments.batch)), 2)

    def rate(self, steps: int, workers: int) -> float:
        """Clips a second over so many batches, after one that starts the pipeline."""
        first, self._step = self._step, self._step + steps + 1
        batches = loader.train_batches(self._examples, first, self._step, workers=workers)
        with contextlib.closing(batches):
            next(batches)
            start = time.perf_counter()
            count = sum(len(batch["label"]) for batch in batches)
        return count / (time.perf_counter() - start)


def lock_share(pipeline: Pipeline, steps: int, workers: int) -> float | None:
    """Share of time in which a thread of this process holds the interpreter lock."""
    if shutil.which("py-spy") is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        output = pathlib.Path(folder) / "samples"
        watcher = subprocess.Popen(
            ["py-spy", "record", "--gil", "--format=raw", f"--rate={SAMPLES}",
             f"--pid={os.getpid()}", f"--output={output}"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        said = watcher.stdout.readline()
        if "Sampling" not in said:
            raise RuntimeError(f"py-spy cannot look at this process: {said}")
        start = time.perf_counter()
        pipeline.rate(steps, workers)
        seconds = time.perf_counter() - start
        watcher.send_signal(signal.SIGINT)  # it writes what it has
        watcher.communicate(timeout=60)
        held = sum(int(line.rpartition(" ")[2]) for line in output.read_text().splitlines())
    return held / (SAMPLES * seconds)


@contextlib.contextmanager
def sources(arguments) -> Iterator[tuple[str, dict[str, tuple[pathlib.Path, list[str]]]]]:
    """A folder to work in; name -> (folder, videos) of the originals and of what is prepared."""
    with tempfile.TemporaryDirectory() as work:
        folder = pathlib.Path(arguments.videos or f"{work}/originals")
        if not arguments.videos:
            folder.mkdir()
            make_videos(folder, arguments.count, gops=(250,))
        short = pathlib.Path(work) / "prepared"
        if prepare([str(folder), str(short)]):
            raise ValueError(f"{folder} holds videos that cannot be read")
        names = sorted(
            str(path.relative_to(folder))
            for path in folder.rglob("*")
            if path.suffix.lower() in VIDEOS
        )
        yield work, {"originals": (folder, names), "prepared": (short, names)}


def measured(arguments) -> list[dict[str, Any]]:
    """A row for each source and cache."""
    workers = [int(number) for number in arguments.workers.split(",")]
    rows = []
    with sources(arguments) as (work, found):
        pipelines = {
            (name, cache): Pipeline(arguments, *place, cache, work)
            for name, place in found.items()
            for cache in CACHES
        }
        rates = {(key, n): [] for key in pipelines for n in workers}
        for repeat in range(arguments.repeats + 1):
            for key, n in rates:
                rate = pipelines[key].rate(arguments.steps, n)
                if repeat:  # the first turn warms up
                    rates[key, n].append(rate)
        for key, pipeline in pipelines.items():
            row = {"videos": key[0], "cache": key[1]}
            for n in workers:
                row[f"clips/s, threads: {n}"] = spread(rates[key, n])
            share = lock_share(pipeline, arguments.steps, workers[-1])
            rate = statistics.median(rates[key, workers[-1]])
            row["lock held"] = "py-spy is not installed" if share is None else f"{share:.0%}"
            row["at most, clips/s"] = "" if not share else f"{rate / share:.0f}"
            rows.append(row)
    return rows


def spread(rates: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(rates):.1f} ({min(rates):.1f} to {max(rates):.1f})"


def main() -> None:
    """Measures and prints."""
    parser = OptionParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", default=None, help="folder; default: made on the spot")
    parser.add_argument("--count", type=int, default=16, help="videos that are made")
    parser.add_argument("--grid", default="8x224")
    parser.add_argument("--workers", default="1,2", help="threads")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=6, help="batches a run")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cache-gib", type=float, default=4.0)
    parser.add_argument("--json", default=None, help="file to write")
    arguments = parser.parse_args()
    title = (
        f"{arguments.videos or f'{arguments.count} generated videos'} at {arguments.grid}, "
        f"{arguments.repeats} interleaved runs of {arguments.steps} batches of {arguments.batch}; "
        f"load of the machine {os.getloadavg()[0]:.1f} at the start"
    )
    publish(title, measured(arguments), arguments.json)


if __name__ == "__main__":
    main()
