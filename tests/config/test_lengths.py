"""Epochs, warm-up and evaluations in steps, once the number of training videos is known."""

import pytest

from fluxjax.config import stored as stored_config
from fluxjax.config.keys import base_config, check_config
from fluxjax.config.lengths import resolve_lengths, take_given
from fluxjax.training.optimizers import learning_rate


def by_epochs(epochs, **optim):
    config = base_config()
    config.epochs, config.total_steps, config.batch_size = epochs, None, 16
    config.optim.warmup_steps = None
    config.optim.update(optim)
    check_config(config)
    return config


@pytest.mark.parametrize(
    ("epochs", "videos", "repeats", "accumulate", "steps", "warmup", "every"),
    [
        (5, 160, 1, 1, 50, 5, 10),  # an epoch is ten steps
        (5, 161, 1, 1, 51, 5, 11),  # 50.3 steps: the last one is begun
        (0.1, 160, 1, 1, 1, 0, 10),
        (100, 36, 1, 1, 225, 22, 23),  # an epoch is 2.25 steps; ten evaluations a run
        (5, 160, 2, 1, 100, 10, 20),  # two clips of a video
        (3, 100, 1, 4, 20, 0, 7),  # 18.75 steps: five updates of four
        (0.3, 160, 1, 1, 3, 0, 10),  # 0.3 * 10 is a little more than 3 in floats
    ],
)
def test_epochs_in_steps(epochs, videos, repeats, accumulate, steps, warmup, every):
    config = by_epochs(epochs, accumulate_steps=accumulate)
    config.data.repeats = repeats
    resolve_lengths(config, videos)
    assert (config.total_steps, config.epochs) == (steps, None)
    assert (config.optim.warmup_steps, config.eval.every_steps) == (warmup, every)


def test_what_is_given_stays():
    config = base_config()
    config.eval.every_steps = 0
    resolve_lengths(config, 1000)
    assert (config.total_steps, config.optim.warmup_steps, config.eval.every_steps) == (100, 20, 0)


def test_the_schedule_takes_the_resolved_steps():
    config = by_epochs(5)
    resolve_lengths(config, 160)
    rate, scale = learning_rate(config), 16 / 256
    assert float(rate(4)) == pytest.approx(config.optim.lr * scale)
    assert float(rate(50)) == pytest.approx(config.optim.end_lr * scale)


def test_a_warm_up_that_the_epochs_cannot_hold_is_refused():
    config = by_epochs(1, warmup_steps=20)
    with pytest.raises(ValueError, match="warmup_steps=20 must lie between 0 and total_steps=10"):
        resolve_lengths(config, 160)


def test_a_resolved_config_is_stored_in_steps(tmp_path):
    config = by_epochs(5)
    resolve_lengths(config, 160)
    stored_config.write(config, tmp_path / "config.json")
    again = stored_config.get_config(str(tmp_path / "config.json"))
    assert again.to_dict() == config.to_dict() and again.total_steps == 50
    resolve_lengths(again, 9999)
    assert again.to_dict() == config.to_dict(), "the stored run is another one on other data"


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({"epochs"}, (None, 5)), ({"total_steps"}, (100, None)), (set(), (100, 5)),
        ({"total_steps", "epochs"}, (100, 5)), ({"pretrain.epochs"}, (100, 5)),
    ],
)  # fmt: skip
def test_the_command_line_replaces_the_recipes_length(given, left):
    config = base_config()
    config.epochs, config.pretrain = 5, base_config()
    config.pretrain.epochs = 3
    take_given(config, given)
    assert (config.total_steps, config.epochs) == left
    assert config.pretrain.total_steps == (None if "pretrain.epochs" in given else 100)
