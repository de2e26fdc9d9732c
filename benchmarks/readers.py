"""Clips per second of the video reader against simpler ways to read the same frames.

    python -m benchmarks.readers --grid 8x224 --threads 1,2 [--videos a.mp4 b.mp4]

Every way reads the same frames (sparse sampling over the whole video), cuts the middle square and
scales it. `decode-all` decodes every frame with PyAV, converts all to RGB and picks; decord2 and
torchcodec are measured where they are installed. Without --videos, clips of Kinetics' size (340 x
256, 10 s, 30 frames/s, a key frame every 12 or 250) are encoded first.
"""

import argparse
import concurrent.futures
import functools
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence

import av
import numpy as np
from PIL import Image

from benchmarks.report import publish
from data_pipelines.clips.crops import view_crop
from data_pipelines.clips.sampling import frame_sampler
from data_pipelines.reading.video import open_video
from fluxjax.tokens.grids import Grid, parse_grid

Reader = Callable[[str, Grid, int], np.ndarray]


def make_videos(folder: pathlib.Path, count: int, gops: Sequence[int] = (250, 12)) -> list[str]:
    """Encodes textured clips with moving parts: H.264, B-frames, key-frame distances in turn."""
    paths = []
    for number in range(count):
        path = folder / f"{number}.mp4"
        rng = np.random.default_rng(number)
        texture = np.asarray(
            Image.fromarray(rng.integers(0, 256, (16, 32, 3), np.uint8)).resize((1024, 512))
        )
        with av.open(path, "w") as container:
            stream = container.add_stream("libx264", rate=30)
            stream.width, stream.height, stream.pix_fmt = 340, 256, "yuv420p"
            stream.options = {"g": str(gops[number % len(gops)]), "bf": "3", "preset": "veryfast"}
            for t in range(300):
                x, y = 2 * t % 600, int(100 + 90 * np.sin(t / 20))
                picture = np.ascontiguousarray(texture[y : y + 256, x : x + 340])
                for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                    container.mux(packet)
            for packet in stream.encode():
                container.mux(packet)
        paths.append(str(path))
    return paths


def wanted(frames: int, grid: Grid, seed: int) -> np.ndarray:
    """Frame numbers, as training draws them."""
    draw, _ = frame_sampler("sparse")
    return draw(frames, grid.frames, np.random.default_rng(seed))


def fluxjax_reader(path: str, grid: Grid, seed: int) -> np.ndarray:
    """Seeks, decodes what is needed, converts and scales the crop only."""
    side = grid.resolution
    with open_video(path) as video:
        box = view_crop(video.height, video.width, 0, 1, side)
        return video.read(wanted(video.num_frames, grid, seed), box=box, size=(side, side))


def square(frame: np.ndarray, side: int) -> np.ndarray:
    """The middle square of a frame [H, W, 3], scaled by Pillow."""
    box = view_crop(*frame.shape[:2], 0, 1, side)
    left, top = box.left - box.left % 2, box.top - box.top % 2  # where chroma begins a pixel
    corners = (left, top, left + box.width, top + box.height)
    image = Image.fromarray(frame)
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR, box=corners))


def decode_all_reader(path: str, grid: Grid, seed: int) -> np.ndarray:
    """PyAV as its first example shows it."""
    with av.open(path) as container:
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    return np.stack([square(frames[i], grid.resolution) for i in wanted(len(frames), grid, seed)])


def decord_reader(path: str, grid: Grid, seed: int) -> np.ndarray:
    """decord2."""
    import decord

    video = decord.VideoReader(path, num_threads=1)
    batch = video.get_batch(wanted(len(video), grid, seed).tolist()).asnumpy()
    return np.stack([square(frame, grid.resolution) for frame in batch])


def torchcodec_reader(path: str, grid: Grid, seed: int) -> np.ndarray:
    """torchcodec."""
    from torchcodec.decoders import VideoDecoder

    video = VideoDecoder(path, dimension_order="NHWC", num_ffmpeg_threads=1)
    indices = wanted(len(video), grid, seed).tolist()
    batch = video.get_frames_at(indices=indices).data.numpy()
    return np.stack([square(frame, grid.resolution) for frame in batch])


READERS: dict[str, Reader] = {
    "fluxjax": fluxjax_reader,
    "PyAV decode-all": decode_all_reader,
    "decord2": decord_reader,
    "torchcodec": torchcodec_reader,
}


def installed(path: str, grid: Grid) -> dict[str, Reader]:
    """The readers that can be imported."""
    found = {}
    for name, reader in READERS.items():
        try:
            reader(path, grid, 0)
        except ImportError:
            print(f"{name} is not installed")
            continue
        found[name] = reader
    return found


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", nargs="+", default=None)
    parser.add_argument("--grid", default="8x224")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--clips", type=int, default=32, help="read a run")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", default=None, help="file to write")
    arguments = parser.parse_args()
    grid = parse_grid(arguments.grid)
    with tempfile.TemporaryDirectory() as folder:
        videos = arguments.videos or make_videos(pathlib.Path(folder), 8)
        readers = installed(videos[0], grid)
        worst = {name: exactness(reader, videos, grid) for name, reader in readers.items()}
        rows = []
        for threads in (int(x) for x in arguments.threads.split(",")):
            rates: dict[str, list[float]] = {name: [] for name in readers}
            for repeat in range(arguments.repeats + 1):
                for name, reader in readers.items():
                    rate = clips_per_second(reader, videos, grid, threads, arguments.clips)
                    if repeat:  # the first turn warms up
                        rates[name].append(rate)
            base = rates["PyAV decode-all"]
            rows += [
                {
                    "threads": threads,
                    "reader": name,
                    "clips/s": f"{statistics.median(r):.1f} ({min(r):.1f} to {max(r):.1f})",
                    "against decode-all": ratio(r, base),
                    "mean difference": f"{worst[name]:.2f}",
                }
                for name, r in rates.items()
            ]
    source = f"{len(videos)} videos" if arguments.videos else "8 generated videos"
    publish(
        f"{source} at {grid}, {arguments.repeats} interleaved runs of {arguments.clips} clips; "
        "mean difference: of 8-bit pixels from decode-all's frames",
        rows,
        arguments.json,
    )


def ratio(rates: list[float], base: list[float]) -> str:
    """Median and range of the ratios, run by run."""
    ratios = [a / b for a, b in zip(rates, base, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def exactness(reader: Reader, videos: list[str], grid: Grid) -> float:
    """Largest mean absolute difference of a frame: another frame would differ by tens."""
    worst = 0.0
    for number, path in enumerate(videos):
        ours, theirs = (
            read(path, grid, number).astype(np.int16) for read in (reader, decode_all_reader)
        )
        worst = max(worst, float(np.abs(ours - theirs).mean(axis=(1, 2, 3)).max()))
    return worst


def clips_per_second(reader: Reader, videos: list[str], grid: Grid, threads: int, count: int):
    """One run."""
    read = functools.partial(_numbered, reader, videos, grid)
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        start = time.perf_counter()
        for _ in pool.map(read, range(count)):
            pass
        return count / (time.perf_counter() - start)


def _numbered(reader: Reader, videos: list[str], grid: Grid, number: int) -> np.ndarray:
    return reader(videos[number % len(videos)], grid, number)


if __name__ == "__main__":
    main()
