"""Catalogs: list files in all their forms, TFDS data sets, and what they say when wrong."""

import subprocess
import sys

import numpy as np
import pytest

from data_pipelines.reading.errors import VideoError
from data_pipelines.sources.catalog import Record, missing, open_catalog


def records(path, **options):
    catalog = open_catalog(path, split="train", **options)
    return [catalog[i] for i in range(len(catalog))]


def test_list_with_spaces_unicode_comments_and_spans(write):
    path = write(
        "# path label\n"
        "\n"
        "a.mp4 0\n"
        "  my holiday/übung 3.mp4   2  \n"
        "/abs/日本.mp4\t1\n"
        "clip one.mp4 1.5 4e0 3\n"
        "my 1 2.mp4 0\n"
    )
    assert records(path) == [
        Record("a.mp4", 0, "a.mp4"),
        Record("my holiday/übung 3.mp4", 2, "my holiday/übung 3.mp4"),
        Record("/abs/日本.mp4", 1, "/abs/日本.mp4"),
        Record("clip one.mp4", 3, "clip one.mp4", 1.5, 4.0),
        Record("my 1 2.mp4", 0, "my 1 2.mp4"),
    ]
    catalog = open_catalog(path, split="train")
    assert (catalog.num_classes, catalog.label_names) == (4, None)
    assert catalog[-1] == catalog[len(catalog) - 1]
    with pytest.raises(IndexError):
        catalog[len(catalog)]


def test_csv_with_commas_quotes_and_a_byte_order_mark(write):
    path = write('\ufeff"a, b.mp4",3\nc, d.mp4, 1\ne.mp4,0.5,2.5,2\n', "list.csv")
    assert records(path, separator=",") == [
        Record("a, b.mp4", 3, "a, b.mp4"),
        Record("c, d.mp4", 1, "c, d.mp4"),
        Record("e.mp4", 2, "e.mp4", 0.5, 2.5),
    ]


def test_root_is_put_before_relative_paths_only(write):
    path = write("a.mp4 0\n/b.mp4 0\n")
    assert [r.source for r in records(path, root="/data/k400")] == ["/data/k400/a.mp4", "/b.mp4"]


def test_split_placeholder(write, tmp_path):
    write("a.mp4 0\n", "my_val.txt")
    assert len(open_catalog(str(tmp_path / "my_{split}.txt"), split="val")) == 1


def test_some_of_the_classes(write):
    path = write("a.mp4 0\nb.mp4 1\nc.mp4 2\nd.mp4 0\ne.mp4 3\n")
    names = ["run", "jump", "sit", "fall"]
    catalog = open_catalog(path, split="train", label_names=names, classes=("sit", 0))
    assert [(record.source, record.label) for record in catalog] == [
        ("a.mp4", 1),
        ("c.mp4", 0),
        ("d.mp4", 1),
    ]
    assert (catalog.num_classes, catalog.label_names) == (2, ("sit", "run"))
    assert catalog.labels().tolist() == [1, 0, 1]
    for classes, message in (
        (("walk",), "no class 'walk'; give run, jump, sit, fall, or numbers from 0 to 3"),
        ((0, "run"), "name a class twice"),
    ):
        with pytest.raises(ValueError, match=message):
            open_catalog(path, split="train", label_names=names, classes=classes)
    with pytest.raises(ValueError, match="no record has a label among"):
        open_catalog(path, split="train", num_classes=None, label_names=[*names, "swim"],
                     classes=("swim",))  # fmt: skip
    with pytest.raises(ValueError, match="num_classes=4, but classes"):
        open_catalog(path, split="train", num_classes=4, classes=(0, 1))


def test_class_numbers_and_names(write):
    path = write("a.mp4 0\nb.mp4 1\n")
    assert open_catalog(path, split="train", num_classes=5).num_classes == 5
    named = open_catalog(path, split="train", label_names=["run", "jump", "sit"])
    assert (named.num_classes, named.label_names) == (3, ("run", "jump", "sit"))
    with pytest.raises(ValueError, match="num_classes says 2, label_names says 3"):
        open_catalog(path, split="train", num_classes=2, label_names=["run", "jump", "sit"])
    with pytest.raises(ValueError, match="sequence of names, not the string"):
        open_catalog(path, split="train", label_names="names.txt")


@pytest.mark.parametrize(
    ("line", "options", "message"),
    [
        ("a.mp4", {}, "line 2: no label in 'a.mp4'"),
        ("a.mp4,3", {}, "line 2: no label in 'a.mp4,3'; for commas pass separator=','"),
        ("a b.mp4,3", {}, "label 'b.mp4,3' of 'a' is not an integer; for commas pass separator"),
        ("a.mp4 run", {}, "label 'run' of 'a.mp4' is a name, that of 'good.mp4' a number: 0; give"),
        ("a.mp4 1.0", {}, "label '1.0' of 'a.mp4' is not an integer"),
        (
            "a.mp4 5",
            {"num_classes": 5},
            r"label 5 of 'a.mp4' is outside 0\.\.4; classes count from",
        ),
        ("a.mp4 -1", {}, "label -1 of 'a.mp4' is outside"),
        ("a.mp4 3 2 0", {}, "span 3 to 2 of 'a.mp4'"),
        ("a.mp4 0 inf 0", {}, "span 0 to inf of 'a.mp4'"),
        ("a.mp4 nan 1 0", {}, "span nan to 1 of 'a.mp4'"),
        (",3", {"separator": ","}, "no path in ',3'"),
    ],
)
def test_bad_line(write, line, options, message):
    good = "good.mp4,0\n" if "separator" in options else "good.mp4 0\n"
    path = write(good + line + "\n")
    with pytest.raises(ValueError, match=message) as error:
        open_catalog(path, split="train", **options)
    assert path in str(error.value) and "1 of 2 lines" in str(error.value)


def test_many_bad_lines_show_ten(write):
    path = write("".join(f"{i}.mp4 0.5\n" for i in range(25)))
    with pytest.raises(ValueError, match="25 of 25 lines") as error:
        open_catalog(path, split="train")
    text = str(error.value)
    assert "line 10:" in text and "line 11:" not in text and "... and 15 more" in text


def test_no_list(write, tmp_path):
    write("a.mp4 0\n", "train_list.txt")
    with pytest.raises(FileNotFoundError, match=r"did you mean .*train_list\.txt\?"):
        open_catalog(str(tmp_path / "train_lst.txt"), split="train")
    with pytest.raises(FileNotFoundError, match="folder .* does not exist"):
        open_catalog(str(tmp_path / "nowhere" / "x.txt"), split="train")
    with pytest.raises(FileNotFoundError, match="other sources are 'demo'"):
        open_catalog(str(tmp_path / "qq"), split="train")
    with pytest.raises(ValueError, match="names no video; a class folder holds videos"):
        open_catalog(str(tmp_path), split="train")
    with pytest.raises(ValueError, match="names no video"):
        open_catalog(write("# nothing\n"), split="train")
    (tmp_path / "clip.mp4").write_bytes(b"\0\0\0 ftyp\xff\xfe\xfd")
    with pytest.raises(ValueError, match="no UTF-8 text"):
        open_catalog(str(tmp_path / "clip.mp4"), split="train")


def test_missing_lists_what_is_not_there(write, tmp_path):
    (tmp_path / "b.mp4").write_bytes(b"")
    catalog = open_catalog(
        write("a.mp4 0\nb.mp4 0\nc.mp4 0\nd.mp4 0\n"), split="train", root=str(tmp_path)
    )
    assert missing(catalog, limit=2) == [str(tmp_path / "a.mp4"), str(tmp_path / "c.mp4")]
    assert len(missing(catalog)) == 3


def test_options_that_mean_nothing_are_refused():
    with pytest.raises(ValueError, match="separator=',' has no meaning for 'demo'"):
        open_catalog("demo", split="train", separator=",")
    with pytest.raises(ValueError, match="root='/x' has no meaning"):
        open_catalog("demo:hard", split="train", root="/x")
    with pytest.raises(ValueError, match="unknown demo variant 'esay'"):
        open_catalog("demo:esay", split="train")
    with pytest.raises(ValueError, match="only video=KEY, label=KEY and captions=KEY"):
        open_catalog("tfds:x?clip=a", split="train")


def test_local_lists_need_no_tensorflow(write):
    path = write("a.mp4 0\n")
    code = (
        "import sys\nfrom data_pipelines.sources.catalog import open_catalog\n"
        "import data_pipelines.demo\n"
        f"print(open_catalog({path!r}, split='train')[0].source)\n"
        "print([m for m in sys.modules if m.split('.')[0] in"
        " ('tensorflow', 'tensorflow_datasets', 'av', 'sklearn')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["a.mp4", "[]"]


@pytest.mark.slow
def test_remote_lists_and_videos_are_read_as_bytes():
    tf = pytest.importorskip("tensorflow")  # ram:// stands for gs://: the same calls
    tf.io.gfile.makedirs("ram://bucket/videos")
    with tf.io.gfile.GFile("ram://bucket/train.txt", "w") as file:
        file.write("a b.mp4 1\ngone.mp4 0\n")
    with tf.io.gfile.GFile("ram://bucket/videos/a b.mp4", "wb") as file:
        file.write(b"\0\1\2")
    catalog = open_catalog("ram://bucket/train.txt", split="train", root="ram://bucket/videos/")
    assert catalog[0] == Record(b"\0\1\2", 1, "ram://bucket/videos/a b.mp4")
    assert missing(catalog) == ["ram://bucket/videos/gone.mp4"]
    with pytest.raises(VideoError, match="gone.mp4: there is no file"):
        catalog[1]
    with pytest.raises(FileNotFoundError, match="ram://bucket/none.txt"):
        open_catalog("ram://bucket/none.txt", split="train")


def tfds_data(folder, video, label, examples, *, file_format="array_record", name="my_videos"):
    """Writes a small TFDS data set; returns the folder to pass as data_dir."""
    import tensorflow_datasets as tfds

    class MyVideos(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        code_path = None  # as in FluxDemo

        def _info(self):
            return self.dataset_info_from_configs(
                features=tfds.features.FeaturesDict({"clip": video, "label": label})
            )

        def _split_generators(self, dl_manager):
            return {"train": enumerate(examples)}

        def _generate_examples(self):
            raise NotImplementedError

    MyVideos.name = name
    MyVideos(data_dir=str(folder), file_format=file_format).download_and_prepare()
    return str(folder)


def test_tfds_bytes_and_paths(tmp_path):
    import tensorflow_datasets as tfds

    mp4 = bytes(range(256)) * 20 + b"\0\0"
    examples = [{"clip": mp4, "label": 1}, {"clip": "some folder/ü.mp4", "label": 0}]
    names = tfds.features.ClassLabel(names=["run", "sit"])
    folder = tfds_data(tmp_path, tfds.features.Text(), names, examples)
    catalog = open_catalog("tfds:my_videos?video=clip", split="train", data_dir=folder, root="/r")
    found = sorted((catalog[i] for i in range(2)), key=lambda record: record.label)
    assert found[0] == Record("/r/some folder/ü.mp4", 0, "/r/some folder/ü.mp4")
    assert found[1].source == mp4 and found[1].name.startswith("tfds:my_videos/train[")
    assert (catalog.num_classes, catalog.label_names) == (2, ("run", "sit"))
    half = open_catalog("tfds:my_videos?video=clip", split="train[:50%]", data_dir=folder)
    assert len(half) == 1
    for source, split, message in [
        ("tfds:my_videos", "train", "no feature 'video', but .'clip', 'label'."),
        ("tfds:my_videos?video=label", "train", "holds no bytes or path"),
        ("tfds:my_videos?video=clip&label=clip", "train", "is no class number"),
        ("tfds:my_videos?video=clip", "test", "test"),
    ]:
        with pytest.raises(ValueError, match=message):
            open_catalog(source, split=split, data_dir=folder)
    with pytest.raises(ValueError, match="num_classes says 3"):
        open_catalog("tfds:my_videos?video=clip", split="train", data_dir=folder, num_classes=3)
    with pytest.raises(
        FileNotFoundError, match="no data set 'my_vids'.*file_format='array_record'"
    ) as error:
        open_catalog("tfds:my_vids", split="train", data_dir=folder)
    assert "tfds build" not in str(error.value), "it asks for apache_beam, which we do not"


def test_tfds_that_cannot_serve(tmp_path):
    import tensorflow_datasets as tfds

    frames = [{"clip": np.zeros((2, 4, 4, 3), np.uint8), "label": 7}]
    number = tfds.features.Scalar(np.int64)
    folder = tfds_data(tmp_path / "a", tfds.features.Video(shape=(2, 4, 4, 3)), number, frames)
    with pytest.raises(ValueError, match="one image per frame"):
        open_catalog("tfds:my_videos?video=clip", split="train", data_dir=folder)

    text = [{"clip": b"\0mp4", "label": 7}]
    folder = tfds_data(tmp_path / "b", tfds.features.Text(), number, text)
    with pytest.raises(ValueError, match="pass num_classes"):
        open_catalog("tfds:my_videos?video=clip", split="train", data_dir=folder)
    catalog = open_catalog(
        "tfds:my_videos?video=clip", split="train", data_dir=folder, num_classes=5
    )
    with pytest.raises(ValueError, match=r"label 7, outside 0\.\.4"):
        catalog[0]

    folder = tfds_data(tmp_path / "c", tfds.features.Text(), number, text, file_format="tfrecord")
    with pytest.raises(ValueError, match="stored as tfrecord, which has no random access"):
        open_catalog("tfds:my_videos?video=clip", split="train", data_dir=folder, num_classes=9)
