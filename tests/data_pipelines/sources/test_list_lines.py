"""Lines of list files: what is taken, skipped with a word, or refused with its number."""

import pytest

from data_pipelines.sources.catalog import open_catalog


def opened(path, **options):
    return open_catalog(path, split="train", **options)


def paths(path, **options):
    return [record.source for record in opened(path, **options)]


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x1c", "\x1d", "\x0b", "\x0c"])
def test_only_line_feeds_and_carriage_returns_end_a_line(write, mark):
    text = f"a{mark}b.mp4 0\nc.mp4 1\r\nd.mp4 2\re.mp4 3"
    assert paths(write(text)) == [f"a{mark}b.mp4", "c.mp4", "d.mp4", "e.mp4"]


@pytest.mark.parametrize("blank", ["\u00a0", "\u3000", "\u2003"])
def test_other_white_space_is_a_part_of_names(write, blank):
    assert paths(write(f"a{blank}b.mp4{blank} \t 0\n")) == [f"a{blank}b.mp4{blank}"]


def test_a_comment_that_names_a_video_is_said(write, caplog):
    text = "# path label\n#cat.mp4 3\na.mp4 0\n# b.mp4 1\n#cut from here\n"
    assert paths(write(text)) == ["a.mp4"]
    (message,) = caplog.messages
    assert "2 lines that begin with # name videos" in message
    assert "the first is line 2: '#cat.mp4 3'; if it is a video, write ./ before" in message
    assert paths(write("./#cat.mp4 0\na.mp4 1\n")) == ["./#cat.mp4", "a.mp4"]


def test_a_file_whose_name_begins_with_a_number_sign_is_taken(write, tmp_path, caplog):
    (tmp_path / "#cat.mp4").write_bytes(b"")
    text = "#cat.mp4 1\na.mp4 0\n#dog.mp4 1\n"
    assert paths(write(text), root=str(tmp_path)) == [f"{tmp_path}/#cat.mp4", f"{tmp_path}/a.mp4"]
    assert "1 lines" in caplog.text and "line 3" in caplog.text


def test_whole_seconds_may_be_labels_and_are_asked_for(write, caplog):
    catalog = opened(write("b.mp4 0 10 1\na.mp4 1 3 0\n"))
    assert [(r.start, r.end, r.label) for r in catalog] == [(0, 10, 1), (1, 3, 0)]
    (message,) = caplog.messages
    assert "2 lines are read as `path start end label`, the first is line 1: 0 s to 10 s" in message
    assert "if these are three labels" in message
    caplog.clear()
    for text in ("b.mp4 0.0 10 1\na.mp4 1 3 0\n", "a.mp4 1 3 run\n", "a.mp4 0\n"):
        opened(write(text))
    assert not caplog.messages


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.mp4 300 0", "the path 'a.mp4 300' goes on after 'a.mp4'; lines have one label"),
        ("a.mp4 1 3 5 0", "the path 'a.mp4 1' goes on after 'a.mp4'"),
        ("a.mp4 5 3 1", "span 5 to 3 of 'a.mp4': .*several labels a video are not understood"),
        ("my a.mp4 2 1 0.5 0", "span 1 to 0.5"),
        ("dir/A B.MKV 12 0", "goes on after 'dir/A B.MKV'"),
        ("a.mp4 play guitar", "'a.mp4 play' goes on after 'a.mp4'.*another separator"),
        ("my holiday.mp4", "no label in 'my holiday.mp4'"),
        ("a.webm", "no label in 'a.webm'"),
    ],
)
def test_fields_that_mean_something_else_are_refused(write, line, message):
    with pytest.raises(ValueError, match=f"line 2: .*{message}"):
        opened(write(f"good.mp4 0\n{line}\n"))


def test_names_with_numbers_at_their_end(write, tmp_path):
    assert paths(write("my 1 2.mp4 0\nclip.mp4 copy.mp4 1\nvideo_7 2\n")) == [
        "my 1 2.mp4", "clip.mp4 copy.mp4", "video_7",
    ]  # fmt: skip
    (tmp_path / "a.mp4 300").write_bytes(b"")
    assert paths(write("a.mp4 300 0\n"), root=str(tmp_path)) == [f"{tmp_path}/a.mp4 300"]
    (tmp_path / "frames").mkdir()
    with pytest.raises(ValueError, match="'frames 120' goes on after 'frames'"):
        opened(write("frames 120 0\n"), root=str(tmp_path))


def test_a_heading_is_not_a_video(write):
    with pytest.raises(ValueError, match="line 1: 'path label' seems to be a heading; mark it"):
        opened(write("path label\na.mp4 run\nb.mp4 sit\n"))
    with pytest.raises(ValueError, match="line 1: label 'class' of 'clip' is a name.*heading"):
        opened(write("clip class\na.mp4 0\nb.mp4 1\n"))
    assert len(opened(write("video_1 run\nvideo_2 sit\n"))) == 2


def test_a_list_in_another_encoding(write, tmp_path):
    (tmp_path / "utf16.txt").write_bytes("a.mp4 0\n".encode("utf-16"))
    with pytest.raises(ValueError, match="no UTF-8 text .*save it as UTF-8"):
        opened(str(tmp_path / "utf16.txt"))
