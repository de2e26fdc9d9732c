"""UMT's annotation files as they are released: retrieval, questions, multiple choice."""

import json

import numpy as np
import pytest

from data_pipelines.clips.crops import ViewPlaces, view_crop
from data_pipelines.clips.per_video import PerVideo
from data_pipelines.reading.geometry import Box
from data_pipelines.sources.catalog import Record, open_catalog
from data_pipelines.sources.rows import some
from fluxjax.tokens.examples import AnswersSpec, ClipSpec, ExampleSpec, TextSpec
from fluxjax.tokens.grids import Grid


def opened(write, entries, **options):
    path = write(json.dumps(entries), "a.json")
    return open_catalog(path, split="test", root="/r", **options)


def record(name, *captions, label=-1, **more):
    return Record(f"/r/{name}", label, f"/r/{name}", captions=captions, **more)


def test_one_or_several_captions_and_several_videos_of_a_caption(write):
    catalog = opened(write, [
        {"video": "video7010.mp4", "caption": "a man sings"},  # MSRVTT, LSMDC
        {"video": "Kx_1.avi", "caption": ["a cat", "one cat"]},  # MSVD's test
        {"video": ["1.webm", "2.webm"], "caption": "moving something up"},  # SSv2's val
    ])  # fmt: skip
    assert list(catalog) == [
        record("video7010.mp4", "a man sings"),
        record("Kx_1.avi", "a cat", "one cat"),
        record("1.webm", "moving something up"),
        record("2.webm", "moving something up"),
    ]


def test_paragraphs_and_the_first_seconds(write):
    """DiDeMo's: sentences joined, 30 seconds; ActivityNet's paragraphs likewise."""
    entries = [
        {"video": "a.mp4", "caption": ["A man sits. ", "he stands"]},
        {"video": "b.mp4", "caption": ["dog"], "start": 10, "end": 60},
        {"video": "c.mp4", "caption": "dog", "start": 10, "end": 20},
    ]
    catalog = opened(write, entries, paragraphs=True, first_seconds=30.0)
    assert list(catalog) == [
        record("a.mp4", "A man sits. he stands", start=0.0, end=30.0),
        record("b.mp4", "dog", start=10.0, end=40.0),
        record("c.mp4", "dog", start=10.0, end=20.0),
    ]
    for option in ({"paragraphs": True}, {"first_seconds": 30.0}):
        with pytest.raises(ValueError, match=f"{next(iter(option))}=.* has no meaning for"):
            open_catalog(write("a.mp4 0\n", "a.txt"), split="test", **option)
        with pytest.raises(ValueError, match="has no meaning for 'demo'"):
            open_catalog("demo", split="test", **option)


def test_questions_and_answers(write):
    catalog = opened(write, [
        {"video": "a.mp4", "question": "what is it", "answer": "dog", "question_id": 3},
        {"video": "b.mp4", "question": "who", "answer": ["man", "boy", "man"]},
    ])  # fmt: skip
    assert list(catalog) == [
        record("a.mp4", "what is it", answers=("dog",)),
        record("b.mp4", "who", answers=("man", "boy", "man")),
    ]
    assert catalog.answers() == some(catalog, None).answers() == [("dog",), ("man", "boy", "man")]


def test_multiple_choice_keeps_its_options_as_they_stand(write):
    options = ["a", "b", "a", "", "e"]
    catalog = opened(write, [
        {"qid": 0, "video": "a.mp4", "caption": options, "answer": 4},
        {"qid": 1, "video": "b.mp4", "caption": options, "answer": 1},
    ])  # fmt: skip
    assert list(catalog) == [
        record(name, label=label, options=tuple(options))
        for name, label in (("a.mp4", 4), ("b.mp4", 1))
    ]
    assert catalog.options()[0] == tuple(options) and catalog.labels().tolist() == [4, 1]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"question": "who"}, "question='who' and answer=None: both or neither"),
        ({"caption": "x", "answer": "dog"}, "question=None and answer='dog': both or neither"),
        ({"question": "who", "answer": []}, r"answer=\[\] must be a text, or a list"),
        ({"question": "who", "answer": 3}, "answer=3 must be a text, or a list"),
        ({"question": ["who"], "answer": "he"}, r"question=\['who'\] must be a text"),
        ({"question": "who", "caption": "x", "answer": "he"}, "both caption and question are"),
        ({"caption": "x", "answer": 0}, "answer=0 needs two captions or more"),
        ({"caption": ["x", "y"], "answer": 2}, "answer=2 is none of the 2 captions"),
        ({"caption": ["x", "y"], "answer": 1, "label": 1}, "both answer=1 and label=1"),
    ],
)
def test_wrong_questions_are_named(write, more, message):
    with pytest.raises(ValueError, match=message):
        opened(write, [{"video": "a.mp4", **more}])


def test_answers_as_arrays(write, tmp_path):
    """The most frequent ones and their shares; without a record nothing."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "who", "man", "boy", "dog"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    text = TextSpec(4, str(tmp_path / "vocab.txt"), "bert", len(words))
    answers = AnswersSpec(TextSpec(5, text.tokenizer, "bert_answer", len(words)), 2)
    spec = ExampleSpec((ClipSpec((Grid(2, 28),)),), text, (), answers)
    said = ["boy", "man", "dog", "man"]
    catalog = opened(write, [{"video": "a.mp4", "question": "Who?", "answer": said}])
    made = PerVideo(catalog, spec)
    item = made.arrays(catalog[0], 0)
    names = spec.arrays().keys() - {"video"}
    assert {n: (x.shape, x.dtype) for n, x in item.items()} == {n: spec.arrays()[n] for n in names}
    np.testing.assert_array_equal(item["text"], [2, 5, 3, 0])
    np.testing.assert_array_equal(item["answer"], [[2, 6, 3, 3, 0], [2, 7, 3, 3, 0]])
    np.testing.assert_array_equal(item["answer_length"], [4, 4])
    np.testing.assert_array_equal(item["answer_weight"], np.float32([0.5, 0.25]))
    assert not any(np.any(made.arrays(None, 1)[name]) for name in names - {"text", "text_length"})
    (alone,) = opened(write, [{"video": "a.mp4", "question": "who", "answer": "dog"}])
    np.testing.assert_array_equal(made.arrays(alone, 0)["answer_weight"], [1, 0])
    with pytest.raises(ValueError, match="has no answer, and the task needs one"):
        made.arrays(record("b.mp4", "who"), 0)


def test_a_single_view_of_the_whole_picture():
    assert view_crop(90, 160, 0, 1, 28, ViewPlaces(1.0, "whole")) == Box(0, 0, 90, 160)
    assert view_crop(90, 160, 0, 3, 28, ViewPlaces(1.0, "whole")) == view_crop(90, 160, 0, 3, 28)
