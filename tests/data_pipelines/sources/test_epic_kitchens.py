"""EPIC-KITCHENS-100's files: spans, actions and their order, graded sentences."""

import pickle

import numpy as np
import pytest

from data_pipelines.clips.examples import PerVideo
from data_pipelines.clips.seeding import rng
from data_pipelines.sources.catalog import open_catalog
from data_pipelines.text.training import train_bpe
from fluxjax.tokens.examples import ClipSpec, ExampleSpec, TextSpec
from fluxjax.tokens.grids import Grid
from tests.golden import fixture

HEADING = (
    "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,"
    "start_frame,stop_frame,narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes"
)


def write(path, pairs, narrations=None):
    """A row for each (verb, noun): second i to i + 0.5 of minute 1 of P01_0(i % 2)."""
    lines = [HEADING]
    for i, (verb, noun) in enumerate(pairs):
        said = narrations[i] if narrations else f"do {i}"
        lines.append(
            f'P01_{i},P01,P01_0{i % 2},00:00:00.5,00:01:{i:02d}.00,00:01:{i:02d}.50,1,2,"{said}",'
            f"x,{verb},y,{noun},\"['a', 'b']\",\"[1, 2]\""
        )
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_actions_are_ordered_as_texts_over_all_splits(tmp_path):
    case = fixture("avion", "v10").meta
    pairs = {split: case["config"][f"{split}_pairs"] for split in ("train", "val")}
    train = write(tmp_path / "EPIC_100_train.csv", pairs["train"])
    val = write(tmp_path / "EPIC_100_validation.csv", pairs["val"])
    catalog = open_catalog(train, split="train", root="/ek")
    assert list(catalog.label_names) == case["action_vocabulary"]
    test = open_catalog(val, split="test", root="/ek", training=catalog)
    assert test.label_names == catalog.label_names and test.num_classes == 17
    np.testing.assert_array_equal(test.labels(), fixture("avion", "v10").inputs["targets"])
    alone = open_catalog(val, split="test")
    assert alone.label_names == catalog.label_names
    record = catalog[3]
    assert record.source == "/ek/P01/P01_01.MP4" and record.captions == ("do 3",)
    assert (record.start, record.end) == (63.0, 63.5)


def test_what_is_wrong_with_rows_is_told(tmp_path):
    path = tmp_path / "EPIC_100_train.csv"
    write(path, [(0, 1), (2, 3), (4, 5)])
    text = path.read_text().replace("00:01:01.50", "1.5").replace("00:01:02.50", "00:01:02.00")
    path.write_text(text)
    with pytest.raises(ValueError, match="2 of 3 lines") as error:
        open_catalog(str(path), split="train")
    assert "line 3: time '1.5' is not HH:MM:SS.ss" in str(error.value)
    assert "line 4: span 62 to 62 s" in str(error.value)


def retrieval(tmp_path, kind):
    pairs, said = [(0, 0)] * 4, ["open door", "close door", "cut onion", "open door"]
    path = write(tmp_path / "EPIC_100_retrieval_train.csv", pairs, said)
    sentences = "narration_id,narration\nP01_0,open door\nP01_1,close door\nP01_2,cut onion\n"
    (tmp_path / "EPIC_100_retrieval_train_sentence.csv").write_text(sentences)
    values = np.array([[1, 0.5, 0], [0.5, 1, 0.1], [0, 0, 1], [0, 0.05, 0]])
    (tmp_path / "relevancy").mkdir(exist_ok=True)
    name = tmp_path / "relevancy" / f"caption_relevancy_EPIC_100_retrieval_train.{kind}"
    if kind == "npy":
        np.save(name, values)
    else:
        name.write_bytes(pickle.dumps(values, 4))
    return path, values


@pytest.mark.parametrize("kind", ["pkl", "npy"])
def test_relevant_sentences_are_captions(tmp_path, kind):
    path, values = retrieval(tmp_path, kind)
    catalog = open_catalog(path, split="train")
    graded = catalog.relevancy()
    assert graded.texts == ("open door", "close door", "cut onion")
    np.testing.assert_array_equal(graded.values, values)
    assert [catalog[i].captions for i in range(4)] == [
        ("open door", "close door"), ("close door", "open door"), ("cut onion",),
        ("open door",),  # no sentence is relevant: its own narration stays
    ]  # fmt: skip
    assert catalog[0].relevancies == (1.0, 0.5)
    assert catalog.captions()[0] == ("open door",), "retrieval takes its own narration for right"


def test_the_relevancy_of_the_drawn_caption_is_a_target(tmp_path):
    path, _ = retrieval(tmp_path, "npy")
    train_bpe(["open door", "close door"], 300, tmp_path / "tokenizer.json")
    spec = ExampleSpec(
        (ClipSpec((Grid(2, 28),)),), TextSpec(8, str(tmp_path / "tokenizer.json")), ("relevancy",)
    )
    assert spec.arrays()["relevancy"] == ((), np.dtype(np.float32))
    catalog = open_catalog(path, split="train")
    per_video = PerVideo(catalog, spec)
    ids = {text: tuple(per_video._tokenizer.encode(text, 8)[0]) for text in catalog[0].captions}
    drawn = set()
    for seed in range(20):
        item = per_video.arrays(catalog[0], 0, rng(seed))
        drawn.add((tuple(item["text"]), float(item["relevancy"])))
    assert drawn == {(ids["open door"], 1.0), (ids["close door"], 0.5)}
    assert per_video.arrays(catalog[0], 0)["relevancy"] == 1.0
    assert per_video.arrays(None, 0)["relevancy"] == 0.0


def test_relevancies_of_other_clips_are_refused(tmp_path):
    path, values = retrieval(tmp_path, "npy")
    np.save(tmp_path / "relevancy" / "caption_relevancy_EPIC_100_retrieval_train.npy", values[1:])
    with pytest.raises(ValueError, match=r"must hold an array \[4, 3\], .* not \(3, 3\)"):
        open_catalog(path, split="train").relevancy()
    (tmp_path / "EPIC_100_retrieval_train_sentence.csv").unlink()
    assert open_catalog(path, split="train").relevancy() is None
