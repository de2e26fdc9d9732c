"""Videos on other file systems: tried again, then bad like any other; unknown schemes."""

import pytest

from data_pipelines import doctor
from data_pipelines.reading.errors import VideoError
from data_pipelines.sources import remote
from data_pipelines.sources.catalog import missing, open_catalog

tf = pytest.importorskip("tensorflow")


class Failing:
    """Stands for a file of a bucket: fails some times, then gives its bytes."""

    def __init__(self, errors):
        self.errors, self.tries = list(errors), 0

    def __call__(self, path, mode):
        self.tries += 1
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def read(self):
        if self.errors:
            raise self.errors.pop(0)
        return b"video"


@pytest.fixture
def waits(monkeypatch):
    found = []
    monkeypatch.setattr(remote.time, "sleep", found.append)
    return found


def failing(monkeypatch, *kinds):
    file = Failing([kind(None, None, "HTTP 503: try later\nmore") for kind in kinds])
    monkeypatch.setattr(tf.io.gfile, "GFile", file)
    return file


def test_passing_failures_are_tried_again_with_growing_waits(monkeypatch, waits, caplog):
    file = failing(monkeypatch, tf.errors.UnavailableError, tf.errors.DeadlineExceededError)
    assert remote.source_of("gs://bucket/a.mp4") == b"video"
    assert (file.tries, waits) == (3, [1.0, 2.0])
    assert "gs://bucket/a.mp4: HTTP 503: try later; trying again in 2 s" in caplog.text


@pytest.mark.parametrize(
    "kind",
    [
        tf.errors.UnavailableError, tf.errors.InternalError, tf.errors.UnknownError,
        tf.errors.AbortedError, tf.errors.ResourceExhaustedError,
    ],
)  # fmt: skip
def test_then_it_is_a_bad_video(monkeypatch, waits, kind):
    file = failing(monkeypatch, *[kind] * 5)
    with pytest.raises(VideoError) as error:
        remote.source_of("gs://bucket/a.mp4")
    assert error.value.name == "gs://bucket/a.mp4" and "HTTP 503: try later" in error.value.reason
    assert "\n" not in str(error.value) and (file.tries, len(waits)) == (3, 2)


@pytest.mark.parametrize(
    "kind",
    [
        tf.errors.NotFoundError, tf.errors.PermissionDeniedError, tf.errors.UnauthenticatedError,
        tf.errors.InvalidArgumentError,
    ],
)  # fmt: skip
def test_what_another_try_cannot_help_is_not_tried_again(monkeypatch, waits, kind):
    file = failing(monkeypatch, kind)
    with pytest.raises(VideoError, match="gs://bucket/a.mp4"):
        remote.source_of("gs://bucket/a.mp4")
    assert (file.tries, waits) == (1, [])


def test_records_of_lists_fail_alike(monkeypatch, waits, write):
    catalog = open_catalog(write("a.mp4 0\n"), split="train", root="gs://bucket")
    failing(monkeypatch, *[tf.errors.UnavailableError] * 3)
    with pytest.raises(VideoError, match="gs://bucket/a.mp4: cannot read"):
        catalog[0]
    failing(monkeypatch, *[tf.errors.UnavailableError] * 3)
    monkeypatch.setattr(tf.io.gfile, "isdir", lambda path: False)
    with pytest.raises(OSError, match="cannot read gs://bucket/list.jsonl: HTTP 503"):
        open_catalog("gs://bucket/list.jsonl", split="train")


@pytest.mark.parametrize("scheme", ["https", "http", "s3", "abfs", "hdfs"])
def test_a_scheme_that_cannot_be_read_is_one_error_at_the_start(write, scheme, capsys):
    path = write(f"a.mp4 0\n{scheme}://host/b.mp4 1\n{scheme}://host/c.mp4 1\n")
    message = rf"train.txt: {scheme}:// cannot be read here \({scheme}://host/b.mp4\); TensorFlow"
    with pytest.raises(ValueError, match=message):
        open_catalog(path, split="train")
    with pytest.raises(ValueError, match=f"{scheme}:// cannot be read here"):
        open_catalog(write("a.mp4 0\n", "b.txt"), split="train", root=f"{scheme}://bucket")
    with pytest.raises(ValueError, match=f"{scheme}:// cannot be read here"):
        open_catalog(f"{scheme}://host/list.txt", split="train")
    assert doctor.main([path]) == 2
    assert f"error: {path}: {scheme}:// cannot be read here" in capsys.readouterr().err
    with pytest.raises(VideoError, match=f"{scheme}:// cannot be read here"):
        remote.source_of(f"{scheme}://host/a.mp4")


def test_lists_folders_and_videos_of_another_file_system():
    tf.io.gfile.makedirs("ram://room/train/run")  # ram:// stands for gs://: the same calls
    for name, data in (("train/run/a.mp4", b"1"), ("list.txt", b"a.mp4 sit\n")):
        with tf.io.gfile.GFile(f"ram://room/{name}", "wb") as file:
            file.write(data)
    folder = open_catalog("ram://room/{split}", split="train")
    assert [(r.name, r.source, r.label) for r in folder] == [
        ("ram://room/train/run/a.mp4", b"1", 0)
    ]
    listed = open_catalog("ram://room/list.txt", split="train", root="ram://room/train/run/")
    assert listed[0].source == b"1" and listed.label_names == ("sit",)
    assert missing(listed) == []
    entry = doctor.inspect("ram://room/none.mp4")
    assert "there is no file ram://room/none.mp4" in entry.error
