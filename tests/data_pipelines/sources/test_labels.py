"""Labels as numbers and as names: numbered right, alike in train and test, or refused."""

import numpy as np
import pytest

from data_pipelines.sources.array_records import ArrayCatalog
from data_pipelines.sources.catalog import ListFile, open_catalog
from data_pipelines.sources.labels import parse_label


def opened(path, **options):
    return open_catalog(path, split="train", **options)


def test_names_are_numbered_in_sorted_order(write):
    catalog = opened(write("a.mp4 sit\nb.mp4 jump\nc.mp4 run\nd.mp4 jump\n"))
    assert (catalog.num_classes, catalog.label_names) == (3, ("jump", "run", "sit"))
    assert catalog.labels().tolist() == [2, 0, 1, 0]
    assert catalog[1].label == 0 and catalog[0].label == 2
    assert opened(write("a.mp4,play the guitar\nb.mp4,run\n"), separator=",").label_names == (
        "play the guitar",
        "run",
    )


def test_names_in_the_order_of_a_classes_file_or_of_the_caller(write):
    path = write("a.mp4 sit\nb.mp4 jump\n")
    given = opened(path, label_names=("sit", "run", "jump"))
    assert (given.labels().tolist(), given.num_classes) == ([0, 2], 3)
    write("run\r\nsit\r\n\njump\r\n", "classes.txt")
    beside = opened(path)
    assert (beside.label_names, beside.labels().tolist()) == (("run", "sit", "jump"), [1, 2])
    numbers = opened(write("a.mp4 1\nb.mp4 0\n", "numbers.txt"))
    assert (numbers.label_names, numbers.num_classes) == (("run", "sit", "jump"), 3)
    assert opened(path, label_names=("sit", "run", "jump")).labels().tolist() == [0, 2]
    with pytest.raises(ValueError, match=r"num_classes says 4, .*classes.txt says 3"):
        opened(path, num_classes=4)
    with pytest.raises(ValueError, match=r"label 3 of 'a.mp4' is outside 0\.\.2"):
        opened(write("a.mp4 3\n", "more.txt"))
    write("run\nsit\nrun\n", "classes.txt")
    with pytest.raises(
        ValueError, match=r"classes.txt must name every class once.*come twice: run"
    ):
        opened(path)


def test_a_subset_of_named_classes(write):
    train = opened(write("a.mp4 sit\nb.mp4 jump\nc.mp4 run\nd.mp4 jump\n"), classes=("run", "jump"))
    assert [(r.source, r.label) for r in train] == [("b.mp4", 1), ("c.mp4", 0), ("d.mp4", 1)]
    test = open_catalog(
        write("x.mp4 jump\ny.mp4 sit\n", "test.txt"), split="test", classes=("run", "jump"),
        training=train,
    )  # fmt: skip
    assert [(r.source, r.label) for r in test] == [("x.mp4", 1)]
    assert test.label_names == train.label_names == ("run", "jump")


def test_the_test_list_gets_the_numbers_of_training(write):
    train = opened(write("a.mp4 sit\nb.mp4 jump\nc.mp4 run\n"))
    test = opened(write("x.mp4 run\ny.mp4 sit\n", "test.txt"), training=train)
    assert (test.labels().tolist(), test.num_classes) == ([1, 2], 3)
    assert test.label_names == train.label_names
    with pytest.raises(ValueError, match="line 2: label 'jmup' of 'y.mp4' is no known class; did "
                       "you mean 'jump'"):  # fmt: skip
        opened(write("x.mp4 run\ny.mp4 jmup\n", "typo.txt"), training=train)
    with pytest.raises(ValueError, match="no known class; the classes are jump, run, sit"):
        opened(write("x.mp4 xylophone\n", "typo.txt"), training=train)


def test_numbers_and_names_do_not_mix(write):
    with pytest.raises(ValueError, match="line 3: label 'run' of 'c.mp4' is a name, that of "
                       "'a.mp4' a number: 0; give numbers or names, not both"):  # fmt: skip
        opened(write("a.mp4 0\nb.mp4 1\nc.mp4 run\n"))
    with pytest.raises(ValueError, match="line 1: label 0 of 'a.mp4' is a number, that of 'b.mp4'"):
        opened(write("a.mp4 0\nb.mp4 sit\nc.mp4 run\n"))
    named, numbered = opened(write("a.mp4 x\nb.mp4 y\n")), opened(write("a.mp4 0\nb.mp4 1\n", "n"))
    with pytest.raises(ValueError, match="its labels are numbers, those of the training data"):
        opened(write("a.mp4 0\n", "test.txt"), training=named)
    with pytest.raises(ValueError, match="its labels are names .x., those of the training data"):
        opened(write("a.mp4 x\n", "test.txt"), training=numbered)
    write("x\ny\n", "classes.txt")  # tells which name has which number
    assert opened(write("a.mp4 y\n", "test.txt"), training=numbered).labels().tolist() == [1]
    assert opened(write("a.mp4 1\n", "test.txt"), training=opened(write("a.mp4 y\n"))).labels() == 1
    write("y\nx\n", "classes.txt")
    with pytest.raises(ValueError, match="does not name the classes of the training data in their"):
        opened(write("a.mp4 0\n", "test.txt"), training=named)


@pytest.mark.parametrize("label", ["1000000", "1000000000", "1" + "0" * 20, "9" * 5000])
def test_an_identifier_is_no_class_number(write, label):
    with pytest.raises(ValueError, match="line 2: label .* of 'b.mp4' is beyond 999999; class num"):
        opened(write(f"a.mp4 0\nb.mp4 {label}\n"))


@pytest.mark.parametrize("text", ["1.0", "-0.5", "1e3", "2.", ".5"])
def test_other_numbers_are_neither_numbers_nor_names(text):
    with pytest.raises(ValueError, match="is not an integer"):
        parse_label(text)


def test_words_that_python_takes_for_numbers_are_names():
    for text in ("nan", "inf", "infinity", "1_000", "٣", "0x10", "1st"):
        assert parse_label(text) == text
    assert (parse_label("007"), parse_label("+3"), parse_label("-1")) == (7, 3, -1)


def test_class_numbers_without_a_video_are_told(write, caplog):
    text = "".join(f"{i}.mp4 {i}\n" for i in range(1, 102))
    assert opened(write(text)).num_classes == 102
    (message,) = caplog.messages
    assert "make 102 classes, 1 of them without a video: 0; subtract 1 from every" in message
    assert "set num_classes=102" in message
    caplog.clear()
    assert opened(write("a.mp4 0\nb.mp4 3\n")).num_classes == 4
    assert "2 of them without a video: 1, 2; number the classes 0, 1, 2" in caplog.text
    caplog.clear()
    assert opened(write(text), num_classes=102).num_classes == 102
    assert opened(write("a.mp4 1\n", "t.txt"), training=opened(write(text), num_classes=102))
    assert not caplog.messages, "whoever says how many there are is not asked again"
    with pytest.raises(ValueError, match=r"make 5001 classes, 4999 of them .*num_classes=5001"):
        opened(write("a.mp4 0\nb.mp4 5000\n"))
    assert opened(write("a.mp4 0\nb.mp4 5000\n"), num_classes=5001).num_classes == 5001


def test_arrays_are_counted_alike(caplog):
    videos = [np.zeros((1, 2, 2, 3), np.uint8)] * 2
    assert ArrayCatalog(videos, [1, 2]).num_classes == 3
    assert "subtract 1" in caplog.text
    with pytest.raises(ValueError, match="99999 of them without a video|99998 of them"):
        ArrayCatalog(videos, [0, 99999])


def test_no_labels_at_all(write):
    catalog = opened(write("a.mp4 -1\nb.mp4 -1\n"))
    assert (catalog.num_classes, catalog.label_names) == (0, None)
    assert catalog.labels().tolist() == [-1, -1] and catalog[0].label == -1
    with pytest.raises(ValueError, match="line 2: label -1 of 'b.mp4' is outside .*of no video"):
        opened(write("a.mp4 0\nb.mp4 -1\n"))
    with pytest.raises(ValueError, match="line 1: label -1 of 'a.mp4' is outside"):
        opened(write("a.mp4 -1\nb.mp4 run\n"))
    assert isinstance(catalog, ListFile)
