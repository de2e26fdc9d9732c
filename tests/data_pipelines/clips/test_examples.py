"""Examples of several clips, text and targets: what is shared, and what each draws for itself."""

import numpy as np
import pytest

from data_pipelines.clips.examples import EvalExamples, TrainExamples
from data_pipelines.clips.joint import Augmentation
from data_pipelines.sources.array_records import ArrayCatalog
from data_pipelines.sources.quarantine import BadVideos
from data_pipelines.sources.records import Catalog, Record
from data_pipelines.text.training import train_bpe
from fluxjax.tokens.examples import ClipSpec, ExampleSpec, TextSpec, packed
from fluxjax.tokens.grids import Grid

SIDE = 28
SHORT, LONG = ClipSpec((Grid(2, SIDE),), "short"), ClipSpec((Grid(5, SIDE),), "long")
CAPTIONS = (("one", "uno"), ("two",), ("one", "uno"))


class Captioned(Catalog):
    """Videos whose pixels tell the frame (red) and the place (green: row, blue: column)."""

    num_classes, label_names = 3, None

    def __init__(self, captions=CAPTIONS):
        self._captions = captions
        rows, columns = np.mgrid[0:64, 0:64].astype(np.uint8) * 3
        frames = [np.stack([np.full_like(rows, 10 * t), rows, columns], -1) for t in range(20)]
        self._inner = ArrayCatalog([np.stack(frames)] * len(captions), [0, 1, 2])

    def __len__(self):
        return len(self._captions)

    def __getitem__(self, index):
        record = self._inner[index]
        return Record(record.source, record.label, record.name, captions=self._captions[index])


def train(spec, catalog=None, **options):
    settings = {"seed": 1, "videos_per_batch": 1, "bad": BadVideos(0.0)} | options
    return TrainExamples(catalog or Captioned(), spec, **settings)


def frames_of(clip):
    return (clip[..., 0].astype(int).mean(axis=(-1, -2)) / 10).round().astype(int)


def test_clips_share_crop_and_mirror_and_draw_their_own_frames():
    examples = train(ExampleSpec((SHORT, LONG)))
    mirrored, drawn = set(), set()
    for position in range(12):
        item = examples.item(position)
        short, long = item["short_video"][0], item["long_video"][0]
        assert short.shape == (2, SIDE, SIDE, 3) and long.shape == (5, SIDE, SIDE, 3)
        # The same places of the picture in every frame of both clips, but for rounding.
        assert np.abs(long[..., 1:].astype(int) - short[:1, ..., 1:]).max() <= 1
        mirrored.add(bool(short[0, 0, 0, 2] > short[0, 0, -1, 2]))
        assert (np.diff(frames_of(long)) >= 0).all()
        drawn.add((tuple(frames_of(short)), tuple(frames_of(long)[[0, -1]])))
    assert mirrored == {True, False} and len(drawn) > 6


def test_the_first_clip_is_what_it_would_be_alone():
    alone, both = train(ExampleSpec((SHORT,))), train(ExampleSpec((SHORT, LONG)))
    for position in range(3):
        a, b = alone.item(position), both.item(position)
        np.testing.assert_array_equal(a["short_video"], b["short_video"])


def test_augmentation_is_joint_and_moves_on_between_repeats():
    def add(clip, rng):
        return clip // 2 + np.uint8(rng.integers(0, 100))

    options = {"augmentation": Augmentation((1, 1), (1, 1), False, add), "repeats": 2}
    item = train(ExampleSpec((SHORT, LONG)), **options).item(0)
    assert item["long_video"].shape[0] == 2
    for short, long in zip(item["short_video"], item["long_video"], strict=True):
        difference = np.abs(short[0, ..., 1:].astype(int) - long[0, ..., 1:])
        assert difference.max() <= 1, "not the same draw"
    assert (item["short_video"][0] != item["short_video"][1]).any(), "the same draw twice"


def test_packed_and_dense_clips_hold_the_same_pixels():
    dense = train(ExampleSpec((ClipSpec((Grid(2, SIDE),)),))).item(4)
    patches = train(packed((Grid(2, SIDE),), slots=10)).item(4)
    assert patches["grid"].tolist() == [[2, 2, 2]]
    first = patches["patches"][0, 0].reshape(14, 14, 3)
    np.testing.assert_array_equal(first, dense["video"][0, 0, :14, :14])
    assert not patches["patches"][0, 8:].any()


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "tokenizer.json"
    return train_bpe(["one", "two", "uno"], 300, path), str(path)


def test_a_caption_is_drawn_for_training_and_fixed_for_testing(vocabulary):
    tokenizer, path = vocabulary
    spec = ExampleSpec((SHORT,), TextSpec(8, path), ("label", "group"))
    examples, seen = train(spec), set()
    for position in range(30):
        item = examples.item(position)
        text = tokenizer.decode(item["text"][0][: item["text_length"][0]])
        example = int(item["example"][0])
        assert text in CAPTIONS[example] and item["label"].tolist() == [example]
        seen.add((example, text))
        again = examples.item(position)
        np.testing.assert_array_equal(item["text"], again["text"])
    assert seen == {(0, "one"), (0, "uno"), (1, "two"), (2, "one"), (2, "uno")}
    test = EvalExamples(Captioned(), spec, BadVideos(0.0))
    texts = [
        tokenizer.decode(test.item(i)["text"][: test.item(i)["text_length"]]) for i in range(3)
    ]
    assert texts == ["one", "two", "one"]


def test_equal_captions_share_a_group(vocabulary):
    spec = ExampleSpec((SHORT,), targets=("group",))
    test = EvalExamples(Captioned(), spec, BadVideos(0.0))
    groups = [int(test.item(i)["group"]) for i in range(4)]
    assert groups[0] == groups[2] != groups[1] and groups[3] == -1, "padding is in no group"
    assert [float(test.item(i)["weight"]) for i in range(4)] == [1, 1, 1, 0]


def test_arrays_are_those_that_the_spec_names(vocabulary):
    spec = ExampleSpec((SHORT, ClipSpec((Grid(2, 14), Grid(3, 14)), "any", slots=4)),
                       TextSpec(6, vocabulary[1]), ("label", "group"))  # fmt: skip
    item = train(spec).item(0)
    arrays = spec.arrays() | {"example": ((), np.dtype(np.int64))}
    assert {n: (x.shape[1:], x.dtype) for n, x in item.items()} == arrays


def test_videos_without_captions_are_named(vocabulary):
    spec = ExampleSpec((SHORT,), TextSpec(6, vocabulary[1]))
    with pytest.raises(ValueError, match=r"array\[\d\] has no caption.*demo:captions"):
        train(spec, Captioned(((), (), ()))).item(0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ExampleSpec((SHORT, SHORT)), "clips with different names"),
        (lambda: ExampleSpec(()), "clips with different names"),
        (lambda: ExampleSpec((SHORT,), targets=("lable",)), "unknown target 'lable'"),
        (lambda: ClipSpec((Grid(2, 28), Grid(4, 28))), "needs one sampling grid.*set slots"),
        (lambda: ClipSpec(()), "needs a sampling grid"),
    ],
)
def test_specs_that_cannot_be_made(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_weights_of_records_are_drawn_by():
    class Weighted(Captioned):
        def weights(self):
            return np.array([0.0, 1.0, 1.0])

    examples = train(ExampleSpec((SHORT,)), Weighted())
    assert {int(examples.item(position)["example"][0]) for position in range(20)} == {1, 2}
