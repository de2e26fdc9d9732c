"""Cached features: computed once, keyed by what they depend on, as good as the tower itself."""

import logging

import jax
import numpy as np
import pytest

from data_pipelines.clips.feature_store import NOT_YET, CachedTrainClips, FeatureStore
from data_pipelines.from_config import VideoData
from data_pipelines.sources.array_records import ArrayCatalog
from data_pipelines.sources.quarantine import BadVideos
from fluxjax.config.keys import check_config
from fluxjax.tasks import create_task
from fluxjax.tasks.base import Plan
from fluxjax.tokens.grids import Grid
from fluxjax.training import loop
from fluxjax.training.feature_cache import CachedData
from tests import tiny

SHAPES = {"out": ((2, 3), "float32"), "q": ((4,), "uint16")}


def features(rows, start=0):
    return {
        name: np.arange(start, start + rows * 2 * np.prod(shape)).reshape(rows, 2, *shape)
        for name, (shape, _) in SHAPES.items()
    }


def test_rows_are_kept_and_go_on_where_they_stopped(tmp_path):
    store = FeatureStore(tmp_path, {"weights": "a"}, 4, 2, SHAPES)
    assert store.missing().tolist() == [0, 1, 2, 3]
    store.write(np.array([2, 0]), np.array([7, -5]), features(2))
    again = FeatureStore(tmp_path, {"weights": "a"}, 4, 2, SHAPES)
    assert again.missing().tolist() == [1, 3] and again.labels.tolist() == [-1, NOT_YET, 7, NOT_YET]
    np.testing.assert_array_equal(again.read(2, 1)["out"], features(2)["out"][0, 1])
    np.testing.assert_array_equal(again.read(0, slice(None))["q"], features(2)["q"][1])
    other = FeatureStore(tmp_path, {"weights": "b"}, 4, 2, SHAPES)
    assert other.directory != store.directory and len(other.missing()) == 4
    assert '"weights": "b"' in (other.directory / "manifest.json").read_text()


def test_training_order_replaces_unreadable_videos(tmp_path):
    store = FeatureStore(tmp_path, {}, 4, 2, SHAPES)
    store.write(np.arange(4), np.array([0, -1, 2, 3]), features(4))
    catalog = ArrayCatalog([np.zeros((1, 8, 8, 3), np.uint8)] * 4, [0, 1, 2, 3])
    clips = CachedTrainClips(store, catalog, seed=3, videos_per_batch=2)
    items = [clips.item(position) for position in range(40)]
    assert {int(item["label"][0]) for item in items} == {0, 2, 3}
    views = {(int(i["example"][0]), int(i["out"].ravel()[0])) for i in items}
    assert len(views) == 6, "not every view of the three readable videos was drawn"
    again = clips.item(17)
    jax.tree.map(np.testing.assert_array_equal, again, items[17])


def cached_config(folder):
    config = tiny.evl_config()
    config.task, config.features.dir = "classify_features", str(folder)
    config.model.dtype = "bfloat16"
    config.model.select = "features"
    config.data.crop_scale = config.data.crop_ratio = (1.0, 1.0)
    config.data.train = config.data.test = "dummy"
    config.data.sampling = "dense:2"
    config.features.clips, config.total_steps = 2, 3
    return config


@pytest.mark.slow
def test_a_run_on_cached_features(tmp_path, caplog):
    config = cached_config(tmp_path)
    check_config(config)
    task = create_task(config)
    rng = np.random.default_rng(0)
    videos = [rng.integers(0, 256, (20, 28, 28, 3), np.uint8) for _ in range(10)]
    catalog = ArrayCatalog(videos, [i % 4 for i in range(10)])
    data = VideoData(catalog, catalog, BadVideos(0.0), config)
    trainer = loop.Trainer.create(task)
    variables = trainer.initial_state().variables()
    cached = CachedData(data, task, trainer.mesh, variables)
    arguments = task.example(), 0
    with caplog.at_level(logging.INFO, "fluxjax"):
        batches = list(cached.train_batches(*arguments))
        again = list(cached.train_batches(*arguments))
    assert "10 of 10 videos to compute" in caplog.text and "0 of 10 videos" in caplog.text
    jax.tree.map(np.testing.assert_array_equal, batches, again)
    spec = task.batch_spec(8)
    assert {n: (x.shape, x.dtype) for n, x in batches[0].items() if n != "example"} == {
        n: (x.shape, x.dtype) for n, x in spec.items()
    }
    # The same logits as from pixels, and a step that needs no tower.
    (first, second) = cached.eval_batches(task.eval_example(Grid(4, 28)))
    pixels = next(iter(data.eval_batches(task.eval_example(Grid(4, 28)))))
    for budget in (16, 8):
        plan = Plan("eval", budget, grid=Grid(4, 28))
        predict = jax.jit(lambda v, b, plan=plan: task.predict(v, b, plan))
        merged = [{n: x.reshape(-1, *x.shape[2:]) for n, x in batch.items() if n in names}
                  for batch, names in ((first, spec), (pixels, ("patches", "grid")))]  # fmt: skip
        merged[0].pop("label", None)
        np.testing.assert_allclose(
            predict(variables, merged[0]), predict(variables, merged[1]), atol=1e-2
        )
    assert second["weight"].tolist() == [1, 1, 0, 0, 0, 0, 0, 0]
    (program,) = trainer.compile_steps()
    placed, _ = next(loop.device_batches(iter_of(batches), trainer.mesh, spec))
    before = jax.device_get(trainer.initial_state().params["head"]["kernel"])
    state, metrics = program(trainer.initial_state(), placed)
    assert np.isfinite(metrics["loss"])
    assert np.abs(before - jax.device_get(state.params["head"]["kernel"])).max() > 0


def iter_of(batches):
    yield from batches


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data.flip": True}, "config.data.flip=True has no effect on cached features"),
        ({"data.crop_scale": (0.5, 1.0)}, "config.data.crop_scale=.*has no effect"),
        ({"features.dir": None}, "needs config.features.dir"),
        ({"model.select": "input"}, "need config.model.select='features'"),
        ({"model.train_tower": True}, "needs a model with a frozen tower"),
        ({"task": "classify"}, "config.features.dir=.* needs config.task='classify_features'"),
        ({"features.clips": 0}, "clips and crops must be at least 1"),
    ],
)
def test_options_without_effect_are_refused(tmp_path, change, message):
    config = cached_config(tmp_path)
    for key, value in change.items():
        part, _, name = key.rpartition(".")
        (config[part] if part else config)[name] = value
    with pytest.raises(ValueError, match=message):
        check_config(config)
