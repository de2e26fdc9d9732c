"""A model that a run cannot start from is refused before it is trained or data are read."""

import jax
import jax.numpy as jnp
import pytest

import fluxjax
from fluxjax.config.keys import base_config, check_config
from fluxjax.models import create_model
from tests import tiny

SIZES = {"width": 16, "depth": 1, "num_heads": 2, "patch": 4}


def fine_tuning(**sizes):
    config = base_config("videomae_ti8")
    config.method, config.budgets, config.num_classes = "cross_entropy", (), 4
    config.model.update(SIZES | sizes)
    config.grids.frames, config.grids.resolutions = (4,), (12,)
    config.grids.min_tokens = config.grids.max_tokens = 36
    config.eval.grids, config.eval.budgets = ("4x12",), (36,)
    config.pretrain = tiny.get_config("videomae")
    return config


def test_a_fine_tuned_model_given_to_pre_training(tmp_path):
    model = create_model("videomae_ti8", 4, **SIZES)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 2, 8, 8, 3)))
    fluxjax.save(tmp_path / "model", model, variables)
    config = tiny.get_config("videomae")
    config.init_from = str(tmp_path / "model")
    with pytest.raises(ValueError, match="holds a VideoMae; .* starts from VideoMaePretraining"):
        check_config(config)
    config = fine_tuning(width=32)
    config.init_from = str(tmp_path / "model")
    with pytest.raises(ValueError, match=r"has width=16 not 32; set config.model to the same"):
        check_config(config)


def test_pre_training_of_other_sizes():
    check_config(fine_tuning())
    with pytest.raises(ValueError, match=r"the model in config.pretrain has width=16 not 32"):
        check_config(fine_tuning(width=32))
    with pytest.raises(ValueError, match=r"in config.pretrain has tubelet=2 not 1"):
        check_config(fine_tuning(tubelet=1))
    config = fine_tuning()
    config.pretrain = tiny.get_config()
    with pytest.raises(ValueError, match=r"config.pretrain holds a FluxViT; a VideoMae starts"):
        check_config(config)
