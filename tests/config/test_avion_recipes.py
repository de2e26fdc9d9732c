"""AVION's recipes are those of the specification's table."""

import numpy as np
import pytest

from fluxjax.config.keys import base_config
from fluxjax.config.recipes import avion
from fluxjax.training.schedules import learning_rate


def rates(config, *steps):
    schedule = learning_rate(config)
    return [float(schedule(step)) for step in steps]


@pytest.mark.parametrize(("model", "batch"), [("avion_b16", 2048), ("avion_l14", 896)])
def test_pretraining_keeps_its_rate_and_its_temperature(model, batch):
    config = avion.pretrain(base_config(model, "contrast"))
    assert (config.batch_size, config.total_steps) == (batch, 5 * 4_000_000 // batch)
    np.testing.assert_allclose(rates(config, 0, 100, config.total_steps - 1), 3e-5, rtol=1e-5)
    assert not config.model.train_temperature and config.optim.weight_decay == 0.01
    assert (config.optim.b1, config.optim.b2, config.optim.name) == (0.9, 0.999, "adamw")


@pytest.mark.parametrize("model", ["avion_b16", "avion_l14"])
def test_retrieval_is_fine_tuned_with_margins(model):
    config = avion.retrieval(base_config(model, "contrast"))
    epoch = config.total_steps // 100
    assert (config.batch_size, config.optim.warmup_steps) == (512, epoch) and epoch == 131
    found = rates(config, 0, epoch, config.total_steps)
    np.testing.assert_allclose(found, [1e-6, 3e-5, 1e-5], rtol=1e-4)
    assert (config.contrast.loss, config.contrast.margin) == ("max_margin", 0.2)
    assert config.eval.grids == ("16x224",) and config.data.crop_scale == (0.5, 1.0)
    assert not config.contrast.relevancy  # which the release promised and ignores


@pytest.mark.parametrize(("model", "side"), [("avion_b16", 224), ("avion_l14_336", 336)])
def test_actions_are_fine_tuned_by_sgd(model, side):
    config = avion.classification(base_config(model))
    epoch = config.total_steps // 100
    assert (config.batch_size, config.optim.warmup_steps) == (512, 2 * epoch) and epoch == 131
    found = rates(config, 0, 2 * epoch, config.total_steps)
    np.testing.assert_allclose(found, [1e-6 * 4, 3e-3 * 4, 1e-5 * 4], rtol=1e-4)
    optim, mixing = config.optim, config.mixing
    assert (optim.name, optim.momentum, optim.nesterov) == ("sgd", 0.9, False)
    assert (optim.weight_decay, config.num_classes) == (4e-5, 3806)
    assert (mixing.prob, mixing.mixup_alpha, mixing.cutmix_alpha) == (1.0, 0.8, 1.0)
    assert (mixing.switch_prob, mixing.smoothing) == (0.5, 0.1)
    assert (config.model.drop_path, config.model.head_dropout) == (0.1, 0.5)
    assert config.eval.grids == (f"16x{side}",) and config.eval.evaluators == ("ek100_cls",)


@pytest.mark.parametrize(
    ("recipe", "task", "frames"),
    [
        ("pretrain", "contrast", 4),
        ("retrieval", "contrast", 16),
        ("classification", "classify", 16),
    ],
)
def test_clips_and_memory_of_all_three(recipe, task, frames):
    config = getattr(avion, recipe)(base_config("avion_b16", task))
    data, model = config.data, config.model
    assert not data.flip and (data.sampling, data.crop) == ("uniform", "random_resized")
    assert (data.crop_scale, data.crop_ratio) == ((0.5, 1.0), (3 / 4, 4 / 3))
    assert (config.grids.frames, config.grids.resolutions) == ((frames,), (224,))
    assert (model.num_frames, model.remat, model.dtype) == (frames, "block", "bfloat16")
    assert config.optim.clip_norm is None and config.optim.layer_decay == 1.0
    assert config.budgets == () and config.eval.budgets == (frames * 14 * 14,)
