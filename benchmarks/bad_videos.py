"""Memory of the data pipeline over many clips, a share of them from bad files.

python -m benchmarks.bad_videos --clips 2000 --bad 0.05
"""

import argparse
import itertools
import pathlib
import tempfile

from benchmarks.report import publish
from data_pipelines import loader
from data_pipelines.clips import clips
from data_pipelines.sources.catalog import ListFile
from data_pipelines.sources.quarantine import BadVideos
from fluxjax.tokens.grids import Grid

BATCH = 16
PARTS = 10  # rows of the table


def resident_mb() -> float:
    """Resident memory of this process, from /proc."""
    for line in pathlib.Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("/proc/self/status has no VmRSS")


def write_files(folder: pathlib.Path, good: int, share: float) -> tuple[pathlib.Path, int]:
    """The list of `good` copies of the odd but readable files and a share of bad ones; its path
    and the number of bad videos in it.
    """
    from tests.data_pipelines import odd_files

    names = [odd_files.write_good(name, folder).name for name in odd_files.GOOD]
    bad = list(odd_files.write_bad(folder))
    count = round(good * share / (1 - share))
    lines = [
        f"{name} {number % 4}"
        for kind, length in ((names, good), (bad, count))
        for number, name in enumerate(itertools.islice(itertools.cycle(kind), length))
    ]
    (folder / "list.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "list.txt", count


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--bad", type=float, default=0.05, help="share of bad videos in the list")
    parser.add_argument("--videos", type=int, default=380, help="good lines of the list")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", default=None, help="file to write")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        path, count = write_files(folder, arguments.videos, arguments.bad)
        bad = BadVideos(1.0, folder / "quarantine.jsonl")
        source = clips.TrainClips(
            ListFile(path, root=name), [Grid(8, 56)], seed=0, videos_per_batch=BATCH,
            slots=Grid(8, 56).tokens(), bad=bad, seconds=60.0,
        )  # fmt: skip
        steps = arguments.clips // BATCH
        rows = []
        for step, batch in enumerate(
            loader.train_batches(source, 0, steps, workers=arguments.workers), 1
        ):
            assert len(batch["label"]) == BATCH
            if step % max(steps // PARTS, 1) == 0 or step == 1:
                rows.append({"clips": step * BATCH, "bad files met": bad.count,
                             "resident MB": f"{resident_mb():.0f}"})  # fmt: skip
        lines = (folder / "quarantine.jsonl").read_text(encoding="utf-8").splitlines()
    title = (
        f"{arguments.clips} clips of 8x56 from a list of {arguments.videos + count} videos, "
        f"{count} of them bad; {len(lines)} different bad files in quarantine.jsonl"
    )
    publish(title, rows, arguments.json)


if __name__ == "__main__":
    main()
