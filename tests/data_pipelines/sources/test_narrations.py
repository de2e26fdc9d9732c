"""Narrations as LaViLa pickles them, and pickles that are more than plain data."""

import logging
import pickle

import numpy as np
import pytest

from data_pipelines.sources.catalog import open_catalog
from data_pipelines.sources.plain_pickle import load_plain


def write(path, value, protocol=4):
    path.write_bytes(pickle.dumps(value, protocol))
    return str(path)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_narrations_of_spans(tmp_path, caplog, protocol):
    caplog.set_level(logging.INFO)
    rows = [
        ("uid-1", 1.5, 4.0, "#C C opens a door"),
        ["uid-1", np.float64(7.25), np.float32(9.5), ["walks", " walks ", "", "goes"], 0.7],
        ("uid-2.MP4", 3, 3, "stands"),
        ("uid-3", 0.0, 1.0, " "),
    ]
    path = write(tmp_path / "ego4d.pkl", rows, protocol)
    catalog = open_catalog(path, split="train", root="/ego")
    assert len(catalog) == 3 and catalog.num_classes == 0
    first, second, third = (catalog[i] for i in range(3))
    assert (first.source, first.start, first.end) == ("/ego/uid-1.mp4", 1.5, 4.0)
    assert (second.start, second.end, second.captions) == (7.25, 9.5, ("walks", "goes"))
    assert (third.name, third.start) == ("/ego/uid-2.MP4", 3.0) and 3 < third.end < 3.01
    assert catalog.captions()[0] == ("#C C opens a door",) and first.label == -1
    assert "1 entries without a narration" in caplog.text


def test_what_is_wrong_with_entries_is_told(tmp_path):
    path = write(tmp_path / "a.pkl", [("v", 3.0, 1.0, "x"), ("v", 1), ("v", "a", 2.0, "x")])
    with pytest.raises(ValueError, match="3 of 3 lines") as error:
        open_catalog(path, split="train")
    for part in ("entry 1: span 3 to 1", "entry 2: ('v', 1) is none", "entry 3: could not conv"):
        assert part in str(error.value)
    with pytest.raises(ValueError, match="a.pkl holds a dict, no list"):
        open_catalog(write(tmp_path / "a.pkl", {}), split="train")


class Evil:
    def __reduce__(self):
        return (open, ("pwned", "w"))


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_nothing_in_a_pickle_is_run(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps([Evil()], protocol)
    with pytest.raises(ValueError, match="x.pkl is no pickle of plain .* it names .*open; nothing"):
        load_plain("x.pkl", data)
    assert not (tmp_path / "pwned").exists()
    for value in (np.array([Evil()]), [np.array([{}], object)]):
        with pytest.raises(ValueError, match="no pickle of plain lists and arrays"):
            load_plain("x.pkl", pickle.dumps(value, protocol))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_are_read(protocol):
    rng = np.random.default_rng(0)
    for array in (
        rng.random((3, 4)), rng.random((3, 4)).astype(np.float32).T, np.arange(5, dtype=">i2"),
        np.zeros((0, 2)), rng.random((4, 2)) > 0.5,
    ):  # fmt: skip
        found = load_plain("x", pickle.dumps(array, protocol))
        np.testing.assert_array_equal(found, array)
        assert found.shape == array.shape
    assert load_plain("x", pickle.dumps((np.int64(7), "ä", b"b", {1: [None]}), protocol)) == (
        7, "ä", b"b", {1: [None]},
    )  # fmt: skip


def test_damaged_pickles_are_told():
    data = pickle.dumps([1.0] * 50)
    for broken in (b"", data[:20], b"\x80\x04" + b"garbage", data[:-1]):
        with pytest.raises(ValueError, match="x is no pickle"):
            load_plain("x", broken)
