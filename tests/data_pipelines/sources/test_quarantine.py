"""Too many unreadable videos stop a run at any size of the list; each counts once."""

import json

import pytest

from data_pipelines import loader
from data_pipelines.clips.examples import EvalExamples
from data_pipelines.reading.errors import ListedAsBadError, VideoError
from data_pipelines.sources.catalog import ListFile
from data_pipelines.sources.quarantine import BadVideos
from fluxjax.tokens.examples import ClipSpec, ExampleSpec
from fluxjax.tokens.grids import Grid
from tests.data_pipelines import video_files


def note(bad, outcomes):
    """Readings: a name for a bad video, None for a good one."""
    for name in outcomes:
        bad.note(None if name is None else VideoError(name, "gone"))


@pytest.mark.parametrize("videos", [1, 2, 8, 39])
def test_all_of_a_short_list_unreadable(videos):
    for limit in (0.05, 1.0):  # whoever allows all to be bad still gets no figure of nothing
        bad = BadVideos(limit, videos=videos)
        note(bad, [f"{i}" for i in range(videos - 1)])
        with pytest.raises(VideoError, match=rf"{videos} of {videos} videos could not be read "):
            note(bad, [f"{videos - 1}"])


def test_the_last_reading_of_a_short_list_judges_it_whatever_it_was():
    bad = BadVideos(0.05, videos=8)
    note(bad, ["a"] + [None] * 6)
    with pytest.raises(
        VideoError, match=r"a: 1 of 8 videos .*12%, more than data.max_bad_share=5%"
    ):
        bad.note(None)
    fine = BadVideos(0.2, videos=8)
    note(fine, ["a"] + [None] * 7 + ["a"] + [None] * 7)
    assert fine.unreadable == {"a": "gone"}, "read twice, it is one video"


def test_a_video_counts_once_however_often_it_is_read():
    bad = BadVideos(0.05, videos=100)
    note(bad, (["a", "b"] + [None] * 98) * 5)
    with pytest.raises(VideoError, match="6 of 100 videos could not be read .6%"):
        note(bad, "cdef")
    late = BadVideos(0.5, videos=1000)
    note(late, [f"{i}" for i in range(19)] + [None] * 19)
    with pytest.raises(VideoError, match="21 of 40 videos"):
        note(late, ["x", "y"])


def test_videos_listed_as_bad_are_named_but_do_not_count():
    bad = BadVideos(0.4, None, {"x": "cut off", "y": "cut off"}, videos=4)
    for name in ("x", "y"):
        with pytest.raises(ListedAsBadError) as error:
            bad.check(name)
        bad.note(error.value)
    note(bad, [None])
    assert bad.unreadable == {"x": "cut off", "y": "cut off"} and bad.count == 0
    with pytest.raises(VideoError, match="1 of 2 videos"):
        note(bad, ["a"])


def test_a_fresh_counter_keeps_what_is_known_and_counts_anew(tmp_path):
    path = tmp_path / "quarantine.jsonl"
    bad = BadVideos(0.5, path, {"x": "cut off"}, videos=100)
    note(bad, ["a", None, None])
    table = bad.fresh(videos=4)
    note(table, ["a", "b", None, None])
    assert table.unreadable == {"a": "gone", "b": "gone"} and bad.unreadable == {"a": "gone"}
    assert [line.count('"video": ') for line in path.read_text().splitlines()] == [1, 1]
    with pytest.raises(ListedAsBadError):
        table.check("x")


def test_damage_is_counted_and_listed_by_file_and_stops_nothing(tmp_path, caplog):
    path = tmp_path / "quarantine.jsonl"
    bad = BadVideos(0.0, path, videos=4)
    bad.note_damage({})
    bad.note_damage({"v/15.mp4": "missing"})
    bad.note_damage({"v/15.mp4": "missing", "v/30.mp4": "holds 449 frames, 450 are needed"})
    assert bad.damaged == 2 and not bad.unreadable
    note(bad, [None] * 4)
    again = BadVideos(1.0, path)
    again.note_damage({"v/15.mp4": "missing, too", "v/45.mp4": "missing"})
    note(again, ["v/15.mp4"])
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["video"], line.get("damaged", False)) for line in lines] == [
        ("v/15.mp4", True), ("v/30.mp4", True), ("v/45.mp4", True), ("v/15.mp4", False),
    ]  # fmt: skip
    assert caplog.text.count("damaged video: v/15.mp4: missing; 1 readings so far") == 1


def test_what_is_wrong_with_parts_of_a_long_video_is_listed_for_each(tmp_path):
    bad = BadVideos(1.0, tmp_path / "quarantine.jsonl", videos=9)
    for reason in ("chunk 0.mp4: missing", "chunk 15.mp4: missing", "chunk 0.mp4: missing"):
        bad.note(VideoError("v", reason))
    assert bad.unreadable == {"v": "chunk 0.mp4: missing"} and bad.count == 3
    assert len((tmp_path / "quarantine.jsonl").read_text().splitlines()) == 2


def test_evaluation_of_missing_videos_ends_in_an_error(tmp_path):
    (tmp_path / "gone.txt").write_text("".join(f"{i}.mp4 0\n" for i in range(8)))
    catalog = ListFile(tmp_path / "gone.txt", root=str(tmp_path))
    spec = ExampleSpec((ClipSpec((Grid(2, 28),), slots=8),), targets=("label",))
    examples = EvalExamples(catalog, spec, BadVideos(0.05, videos=len(catalog)))
    with pytest.raises(VideoError, match="8 of 8 videos could not be read .100%"):
        list(loader.eval_batches(examples, 4, workers=2))
    for i in range(8):
        video_files.write_video(tmp_path / f"{i}.mp4", frames=2)
    examples = EvalExamples(catalog, spec, BadVideos(0.0, videos=len(catalog)))
    assert len(list(loader.eval_batches(examples, 4, workers=2))) == 2
