"""Frame numbers against AVION's loaders, fixture v12, and crops, v15 and v16."""

import functools
import pathlib

import numpy as np
import pytest

from data_pipelines.clips import window_sampling as windows
from data_pipelines.clips.views import frame_span
from data_pipelines.reading.arrays import BlankVideo
from data_pipelines.reading.chunks import ChunkedVideo
from data_pipelines.reading.folders import ChunkFolder
from data_pipelines.sources.records import Record
from tests.golden import fixture


class Drawn:
    """A generator whose draws are the fixture's."""

    def __init__(self, *draws):
        self._draws = list(draws)

    def random(self, size):
        return np.asarray(self._draws.pop(0))

    def integers(self, *_, **options):
        return np.asarray(self._draws.pop(0))

    def uniform(self, low, high):
        return low + self._draws.pop(0) * (high - low)


def test_frames_of_a_span():
    cases = fixture("avion", "v12").meta["segments"]
    assert len(cases) == 7
    for case in cases:
        start, count, parts = case["start"], case["end"] - case["start"], case["num_segments"]
        if not count:  # a span between two frames: the readers give it one
            continue
        frames = windows.uniform_test_frames(count, parts, 0, 1)
        assert (start + frames).tolist() == case["ids"]
        frames = windows.uniform_train_frames(count, parts, Drawn(case["uniform_draws"]))
        assert (start + frames).tolist() == case["ids_jitter"]


def test_frames_of_pre_training_on_kinetics():
    for case in fixture("avion", "v12").meta["kinetics"]:
        draws = [case["start_draw"]] if case["start_draw_upper"] else []
        frames = windows.jittered_train_frames(
            case["num_frames"], case["clip_length"], Drawn(*draws, case["shift_draws"]),
            stride=case["clip_stride"],
        )  # fmt: skip
        assert frames.tolist() == case["train_ids"]


def test_frames_of_fine_tuning_on_kinetics():
    for case in fixture("avion", "v12").meta["k400_finetune"]:
        count, length, stride = (case[k] for k in ("num_frames", "clip_length", "clip_stride"))
        frames = windows.window_train_frames(count, length, Drawn(case["end_draw"]), stride=stride)
        assert frames.tolist() == case["train_or_val_ids"]
        for clip, expected in enumerate(case["test_segment_ids"]):
            frames = windows.window_test_frames(count, length, clip, 5, stride=stride)
            assert frames.tolist() == np.minimum(expected, count - 1).tolist()


@pytest.mark.parametrize("clips", [1, 2, 3])
def test_further_clips_of_a_span_lie_between_each_other(clips):
    found = [windows.uniform_test_frames(120, 4, clip, clips) for clip in range(clips)]
    merged = np.sort(np.concatenate(found))
    np.testing.assert_array_equal(merged, windows.uniform_test_frames(120, 4 * clips, 0, 1))


class Chunk(BlankVideo):
    """A chunk without pixels that notes which of its frames are read."""

    def __init__(self, path, reads, frames, fps):
        super().__init__(frames, 2, 2)
        self.fps, self._reads, self._path = fps, reads, path

    def read(self, indices, **options):
        self._reads.append([self._path, np.asarray(indices).tolist()])
        return super().read(indices, **options)


def opened_chunk(frames, reads, path, name):
    stem = pathlib.Path(path).stem
    return Chunk(stem, reads, frames[stem], 30)


def span_cases(chunked):
    cases = fixture("avion", "v12").meta["chunked"]
    return [case for case in cases if (case["chunk_len"] > 0) == chunked]


def frames_of(case, video):
    """(bounds, frames) as the pipeline has them; a span without length gets one frame."""
    end = max(case["end"], case["start"] + 1e-3)
    first, last = frame_span(video, Record(None, -1, "v", case["start"], end), "uniform")
    if case["jitter"]:
        draw = Drawn(case["uniform_draws"])
        return (
            first,
            last,
            first + windows.uniform_train_frames(last - first, case["clip_length"], draw),
        )
    return first, last, first + windows.uniform_test_frames(last - first, case["clip_length"], 0, 1)


def test_frames_of_chunked_videos(tmp_path):
    for number, case in enumerate(span_cases(chunked=True)):
        reads, folder = [], tmp_path / str(number)
        folder.mkdir()
        for stem in case["chunks"]:
            (folder / f"{stem}.mp4").touch()
        opened = functools.partial(opened_chunk, case["chunks"], reads)
        # The frame rate is the catalog's in the release, as `ChunkFolder(fps=..)` here.
        with ChunkedVideo(ChunkFolder(folder, fps=case["fps"]), "v", opened) as video:
            first, last, frames = frames_of(case, video)
            video.read(frames)
        result = case["result"]
        start, end = result["start_frame"], result["end_frame"]
        assert (first, last) == (start, max(end, start + 1)), case
        if "error" in result:  # a chunk of 449 frames, which the release cannot read
            assert case["chunks"]["0"] == 449 and [stem for stem, _ in reads] == ["0", "15"]
            assert reads[0][1][-1] == 448 and video.damage() == {
                "v/0.mp4": "holds 449 frames, 450 are needed"
            }
            continue
        # The release opens chunks, too, of which it reads no frame.
        assert reads == [read for read in result["reads"] if read[1]], case


def test_frames_of_whole_files():
    for case in span_cases(chunked=False):
        video = BlankVideo(case["chunks"]["all"], 2, 2)
        video.fps, video.times = 30, np.arange(600) / 30
        first, last, frames = frames_of(case, video)
        start, end = case["result"]["start_frame"], case["result"]["end_frame"]
        if case["clip_length"] <= last - first:
            assert (first, last) == (start, end)
            assert [["v", frames.tolist()]] == case["result"]["reads"]
        else:  # the release runs on after the span; here its frames are repeated, as in chunks
            assert first == start and last == round(30 * case["end"]) < end
            assert (frames >= first).all() and (frames < last).all()
