"""FFN's recipes are the specification's: rates, lengths, augmentation and views."""

import numpy as np
import pytest

from fluxjax.config.keys import check_config
from fluxjax.tasks import create_task
from fluxjax.tasks.classify_dense import ClassifyDenseTask
from fluxjax.tasks.frame_flexible import FrameFlexibleTask
from fluxjax.training.schedules import learning_rate
from tests.config.test_configs import load


def rates_at(config, steps):
    schedule = learning_rate(config)
    return [float(schedule(step)) for step in steps]


@pytest.mark.parametrize(
    ("variant", "epoch", "decay", "flip", "images"),
    [
        (None, 86_017 // 32, 5e-4, False, "{:05d}.jpg"),
        ("ssv2", 168_913 // 32, 5e-4, False, "{:06d}.jpg"),
        ("k400", 240_000 // 32, 1e-4, True, "image_{:05d}.jpg"),
    ],
)
def test_tsms(variant, epoch, decay, flip, images):
    _, config = load("ffn_tsm_ssv1", variant)
    optim, data = config.optim, config.data
    assert (config.batch_size, config.total_steps) == (32, 50 * epoch)
    steps = (0, 20 * epoch - 1, 20 * epoch, 40 * epoch - 1, 40 * epoch)
    np.testing.assert_allclose(rates_at(config, steps), [1e-2, 1e-2, 1e-3, 1e-3, 1e-4], rtol=1e-6)
    assert (optim.name, optim.momentum, optim.nesterov, optim.clip_norm) == (
        "sgd",
        0.9,
        False,
        None,
    )
    assert (optim.weight_decay, optim.head_lr_scale, optim.head_bias_lr_scale) == (decay, 5, 10)
    assert (data.crop, data.flip, data.frames) == ("multi_scale", flip, images)
    assert (config.eval.crop_share, config.eval.crops, config.eval.clips) == (0.875, 1, 1)
    assert config.num_classes == (400 if variant == "k400" else 174)


def test_teas():
    _, config = load("ffn_tea_ssv1", None)
    epoch = 86_017 // 32
    steps = (0, 30 * epoch, 40 * epoch, 45 * epoch, 50 * epoch)
    np.testing.assert_allclose(rates_at(config, steps), [2e-2, 2e-3, 2e-4, 2e-5, 2e-5], rtol=1e-5)


def test_slowfasts():
    _, config = load("ffn_slowfast_ssv1", None)
    epoch, optim = 86_017 // 16, config.optim
    assert (config.batch_size, config.total_steps) == (16, 22 * epoch)
    steps = (0, optim.warmup_steps, 14 * epoch, 18 * epoch)
    np.testing.assert_allclose(rates_at(config, steps), [1e-4, 3e-2, 3e-3, 3e-4], rtol=1e-6)
    assert optim.warmup_steps == pytest.approx(0.19 * epoch, abs=0.5)
    assert (optim.nesterov, optim.weight_decay, config.model.dtype) == (True, 1e-6, "float32")
    assert tuple(config.grids.frames) == (16, 32, 64)
    assert config.data.crop == "short_side:0.7:0.875" and config.eval.grids[0] == "64x256"
    assert config.eval.crop_place == "centre"


def test_uniformers():
    _, config = load("ffn_uniformer_ssv1", None)
    epoch, optim = 86_017 // 32, config.optim
    assert (config.batch_size, config.data.repeats) == (64, 2)
    assert config.total_steps == 60 * epoch
    middle = 1e-6 + 0.5 * (2e-4 - 1e-6)
    steps = (0, 5 * epoch, 32.5 * epoch, 60 * epoch)
    np.testing.assert_allclose(rates_at(config, steps), [1e-6, 2e-4, middle, 1e-6], rtol=1e-5)
    assert (optim.name, optim.weight_decay, optim.clip_norm) == ("adamw", 0.05, 20.0)
    mixing = config.mixing
    assert (mixing.prob, mixing.mixup_alpha, mixing.cutmix_alpha) == (1.0, 0.8, 1.0)
    assert (mixing.switch_prob, mixing.smoothing, config.erasing.prob) == (0.5, 0.1, 0.25)
    assert config.data.rand_augment == "rand-m7-n4-mstd0.5-inc1" and not config.data.flip
    assert (config.eval.crops, config.model.drop_path) == (3, 0.2)


def test_variants_are_networks_at_one_frame_number_or_at_three():
    for variant, kind, frames in (("ssv1", FrameFlexibleTask, (4, 8, 16)),
                                  ("ssv2_st4", ClassifyDenseTask, (4,))):  # fmt: skip
        _, config = load("ffn_tsm_ssv1", variant)
        config.data.train = config.data.test = "list.txt"
        check_config(config)
        task = create_task(config)
        assert type(task) is kind and tuple(config.grids.frames) == frames
        assert len(task.example().clips) == len(frames)
    for variant in ("hmdb51", "ssv1_8", "ssv1_st"):
        with pytest.raises(ValueError, match=f"unknown variant '{variant}'"):
            load("ffn_tsm_ssv1", variant)
