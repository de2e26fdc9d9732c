"""Annotation files in JSONL, JSON and CSV: captions, spans, labels, weights, and what is wrong."""

import json
import logging

import pytest

from data_pipelines.sources.catalog import Record, open_catalog


def opened(path, **options):
    return open_catalog(path, split="train", **options)


def lines(*entries):
    return "".join(json.dumps(entry) + "\n" for entry in entries)


ENTRIES = (
    {"video": "a.mp4", "caption": " a cat ", "start": 1, "end": 2.5},
    {"path": "b.mp4", "captions": ["a dog", "the dog runs"], "weight": 0.5},
    {"video": ["c.mp4", "d.mp4"], "caption": "a dog", "id": 7},
    {"video": "e\u2028f.mp4", "caption": "a cat"},
)
RECORDS = [
    Record("/r/a.mp4", -1, "/r/a.mp4", 1.0, 2.5, ("a cat",)),
    Record("/r/b.mp4", -1, "/r/b.mp4", captions=("a dog", "the dog runs"), weight=0.5),
    Record("/r/c.mp4", -1, "/r/c.mp4", captions=("a dog",)),
    Record("/r/d.mp4", -1, "/r/d.mp4", captions=("a dog",)),
    Record("/r/e\u2028f.mp4", -1, "/r/e\u2028f.mp4", captions=("a cat",)),
]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "A.JSON"])
def test_json_in_lines_and_in_a_list(write, name):
    text = lines(*ENTRIES) if name.endswith("l") else json.dumps(ENTRIES, indent=1)
    catalog = opened(write("\ufeff" + text, name), root="/r")
    assert list(catalog) == RECORDS
    assert catalog.groups().tolist() == [0, 1, 2, 2, 0], "equal captions, and only those"
    assert (catalog.num_classes, catalog.label_names) == (0, None)
    assert (
        opened(write(lines(*ENTRIES), "{split}.jsonl".replace("{split}", "val"))).num_classes == 0
    )


def test_unescaped_line_separators_do_not_tear_a_line(write):
    entry = {"video": "a.mp4", "caption": "one\u2028two\x85three"}
    path = write(json.dumps(entry, ensure_ascii=False) + "\n", "a.jsonl")
    assert opened(path)[0].captions == ("one\u2028two\x85three",)


def test_csv(write):
    text = (
        'Video,Caption,start,end,label\r\n"a, b.mp4","says ""hi"",\nthen goes",1,2.5,run\r\n'
        "\r\nc.mp4,a dog,,,sit\r\n"
    )
    assert list(opened(write(text, "a.csv"))) == [
        Record("a, b.mp4", 0, "a, b.mp4", 1.0, 2.5, ('says "hi",\nthen goes',)),
        Record("c.mp4", 1, "c.mp4", captions=("a dog",)),
    ]
    tabs = write("path\tlabel\na.mp4\t0\nb.mp4\t1\n", "tabs.csv")
    with pytest.raises(ValueError, match="tabs.csv"):
        opened(tabs)
    commas = write("a.mp4,0\nvideo.mp4,1\n", "list.csv")  # no heading: a list file
    assert [r.label for r in opened(commas, separator=",")] == [0, 1]


def test_what_is_left_out_is_counted_in_one_line(write, caplog):
    caplog.set_level(logging.INFO)
    text = lines(
        {"video": "a.mp4", "captions": ["x", "x ", "", "  ", 3, None, ["y"], "y"], "id": 1},
        {"video": "b.mp4", "caption": ""},
        {"video": "c.mp4", "captions": [], "label": None},
        {"video": "d.mp4", "caption": 7, "duration": 3},
    )
    catalog = opened(write(text, "a.jsonl"))
    assert [(r.source, r.captions) for r in catalog] == [("a.mp4", ("x", "y"))]
    (message,) = caplog.messages
    assert "1 examples; left out: 4 captions that are no text; 1 captions that are twice in an" in (
        message
    )
    assert "3 empty captions; 3 entries without a usable caption" in message
    assert "keys that are not read: duration, id" in message


def test_an_entry_with_a_label_needs_no_caption(write):
    text = lines(
        {"video": "a.mp4", "caption": "", "label": "run"}, {"video": "b.mp4", "label": "sit"}
    )
    catalog = opened(write(text, "a.jsonl"))
    assert [(r.label, r.captions) for r in catalog] == [(0, ()), (1, ())]
    assert catalog.groups().tolist() == [0, 1], "without captions each is alone"
    test = opened(write(lines({"video": "x.mp4", "label": "sit"}), "t.jsonl"), training=catalog)
    assert test[0].label == 1


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"vid": "a.mp4"}, r"no video in it, only \['vid'\]"),
        ({"video": 3}, "video=.3. must be a path, or a list"),
        ({"video": []}, "video=.* must be a path, or a list"),
        ({"video": "a.mp4", "path": "b.mp4"}, "both video and path are given"),
        ({"video": "a.mp4", "caption": "x", "captions": ["y"]}, "both caption and captions"),
        ({"video": "a.mp4", "start": 1}, "span 1.0 to None: seconds, both or neither"),
        ({"video": "a.mp4", "start": 2, "end": 1}, "span 2.0 to 1.0"),
        ({"video": "a.mp4", "start": "x", "end": 1}, "start='x' must be a number"),
        ({"video": "a.mp4", "start": float("nan"), "end": 1}, "start=nan must be a number"),
        ({"video": "a.mp4", "start": 0, "end": 10**400}, "end=1000.* must be a number"),
        ({"video": "a.mp4", "weight": 0}, "weight=0 must be more than 0"),
        ({"video": "a.mp4", "weight": True}, "weight=True must be a number"),
        ({"video": "a.mp4", "label": 1.5}, "label 1.5 is neither a class number nor a name"),
        ({"video": "a.mp4", "label": True}, "label True is neither"),
        ({"video": "a.mp4", "label": 10**20}, "label 1000.* is beyond 999999"),
    ],
)
def test_bad_entries_are_named(write, entry, message):
    good = {"video": "good.mp4"}
    path = write(lines(good, entry), "a.jsonl")
    with pytest.raises(
        ValueError, match=f"1 of 2 lines .*an entry has video.*\n  line 2: {message}"
    ):
        opened(path)
    path = write(json.dumps([good, good, entry]), "a.json")
    with pytest.raises(ValueError, match=f"\n  entry 3: {message}"):
        opened(path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"video": "a.mp4"}\n{"video": \n', "a.jsonl, line 2: no JSON"),
        ("a.jsonl", '{"video": "a.mp4"}\n["b.mp4"]\n', r"a.jsonl, line 2: \['b.mp4'\] is no obj"),
        ("a.json", '{"video": "a.mp4"}\n{"video": "b.mp4"}', "one object a line is .jsonl"),
        ("a.json", '{"annotations": []}', r"must be a list of objects, not keys \['annotations'\]"),
        ("a.json", "[" * 100000, "no JSON"),
        ("a.json", "[]", "names no video; an entry has video"),
        ("a.csv", "video,label\na.mp4\n", "line 2: 1 fields under a heading of 2; put quotes"),
        ("a.csv", "video,label,label\na.mp4,1,2\n", "has a name twice"),
        ("a.csv", 'video,label\n"a.mp4,1\n', "line 2: no CSV"),
        ("a.csv", "video,captions\na.mp4,\"['x', 'y']\"\n", "line 2: a row holds one caption"),
    ],
)
def test_files_that_are_not_of_their_format(write, name, text, message):
    with pytest.raises(ValueError, match=message):
        opened(write(text, name))


def test_no_file_and_options_that_mean_nothing(write, tmp_path):
    write(lines(*ENTRIES), "train.jsonl")
    with pytest.raises(FileNotFoundError, match=r"did you mean .*train.jsonl\?"):
        opened(str(tmp_path / "trian.jsonl"))
    with pytest.raises(FileNotFoundError, match="there is no list file .*none.csv"):
        opened(str(tmp_path / "none.csv"))
    with pytest.raises(ValueError, match="separator=',' has no meaning for"):
        opened(str(tmp_path / "train.jsonl"), separator=",")


def test_subsets_keep_groups(write):
    text = lines(
        *({"video": f"{i}.mp4", "caption": c, "label": i % 2} for i, c in enumerate("xyxx"))
    )
    subset = opened(write(text, "a.jsonl"), classes=(0,))
    assert [r.source for r in subset] == ["0.mp4", "2.mp4"]
    assert len(set(subset.groups().tolist())) == 1
