"""Numbers for draws on the device: of (seed, epoch, example) alone."""

import numpy as np

from data_pipelines.clips.examples import EvalExamples, TrainExamples
from data_pipelines.sources.catalog import open_catalog
from data_pipelines.sources.quarantine import BadVideos
from fluxjax.tokens.examples import ClipSpec, ExampleSpec
from fluxjax.tokens.grids import Grid

SPEC = ExampleSpec((ClipSpec((Grid(2, 28),), slots=8),), targets=("draw",))


def train(videos_per_batch, repeats=1, seed=0):
    catalog = open_catalog("dummy:6", split="train", num_classes=2)
    return TrainExamples(catalog, SPEC, seed, videos_per_batch, BadVideos(0.0), repeats=repeats)


def numbers(examples, positions):
    items = [examples.item(position) for position in positions]
    return {
        (p // 6, int(i["example"][0])): i["draw"].tolist()
        for p, i in zip(positions, items, strict=True)
    }


def test_draws_do_not_depend_on_the_batch_but_on_the_epoch():
    first = numbers(train(2), range(12))
    assert first == numbers(train(3), range(12))
    assert len({tuple(x) for x in first.values()}) == 12
    assert first != numbers(train(2, seed=1), range(12))


def test_repeats_have_draws_of_their_own():
    item = train(2, repeats=3).item(0)
    assert item["draw"].shape == (3,) and item["draw"].dtype == np.int32
    assert len(set(item["draw"].tolist())) == 3 and item["draw"].min() >= 0


def test_evaluation_numbers_the_examples():
    catalog = open_catalog("dummy:6", split="test", num_classes=2)
    examples = EvalExamples(catalog, SPEC, BadVideos(0.0))
    assert [int(examples.item(i)["draw"]) for i in range(6)] == list(range(6))
