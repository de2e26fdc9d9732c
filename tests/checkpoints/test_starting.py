"""Fine-tuning from an inference checkpoint: what is taken, kept and refused."""

import logging
import re

import flax.linen as nn
import jax
import numpy as np
import pytest

import fluxjax
from fluxjax.checkpoints import starting
from fluxjax.config.keys import check_config
from fluxjax.convert.initialize import init_fluxvit_from_internvideo2
from fluxjax.models.fluxvit import FluxViT
from fluxjax.tasks import create_task
from fluxjax.tokens.positions import resample_table
from fluxjax.training import loop
from tests import tiny
from tests.training.test_loop import run


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A model trained for a few steps, and the folder it was saved to."""
    folder = tmp_path_factory.mktemp("source")
    config = tiny.get_config()
    config.total_steps, config.optim.lr, config.optim.ema = 3, 0.3, 0.5
    state, _ = run(config, folder)
    variables = jax.device_get(state.eval_variables())
    fluxjax.save(folder / "model", create_task(config).model, variables)
    return folder / "model", variables["params"]


def config_from(folder):
    config = tiny.get_config()
    config.init_from = str(folder)
    return config


def started(config):
    state = loop.Trainer.create(create_task(config)).initial_state()
    return jax.device_get(state)


def fresh(config):
    config = config.copy_and_resolve_references()
    config.init_from = None
    return jax.device_get(jax.jit(create_task(config).init)(jax.random.key(config.seed))["params"])


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.slow
def test_the_run_starts_at_the_saved_parameters(source, tmp_path, caplog):
    folder, params = source
    config = config_from(folder)
    config.optim.ema = 0.9
    with caplog.at_level(logging.INFO, "fluxjax"):
        state = started(config)
    assert_same(state.params, params)
    assert_same(state.ema, params)
    assert int(state.step) == 0 and not any(np.any(x) for x in jax.tree.leaves(state.opt_state))
    count = len(jax.tree.leaves(params))
    assert f"taken     {count:>4}  " in caplog.text and "kept         0\n" in caplog.text
    moved = params["heads_0"]["kernel"] - fresh(config)["heads_0"]["kernel"]
    assert np.abs(moved).max() > 1e-3, "the source was not trained"


@pytest.mark.slow
def test_heads_of_other_classes_stay_new_and_the_table_is_resampled(source, tmp_path, caplog):
    folder, params = source
    config = config_from(folder)
    config.num_classes, config.model.grid, config.total_steps = 3, (2, 3, 3), 1
    config.budgets = (8, 4, 2)  # a third projector, head and decoder
    config.optim.warmup_steps = 1
    with caplog.at_level(logging.INFO, "fluxjax"):
        found = started(config).params
    initial = fresh(config)
    for name in ("heads_0", "heads_1", "heads_2", "poolers_2", "decoders_1"):
        assert_same(found[name], initial[name])
    for name in ("blocks_0", "poolers_1", "decoders_0", "patch_embed", "fc_norm"):
        assert_same(found[name], params[name])
    expected = resample_table(params["position_table"], (2, 3, 3), (2, 3, 3))
    np.testing.assert_allclose(found["position_table"], expected, rtol=1e-5, atol=1e-6)
    assert "resampled    1  position_table" in caplog.text and "heads_*/kernel" in caplog.text
    state, losses = run(config, tmp_path)
    assert int(state.step) == 1 and np.isfinite(losses[0][1])


@pytest.mark.slow
def test_a_run_that_has_begun_is_resumed_instead(source, tmp_path, caplog):
    config = config_from(source[0])
    config.total_steps = 2
    begun, _ = run(config, tmp_path)
    with caplog.at_level(logging.INFO, "fluxjax"):
        resumed, losses = run(config, tmp_path)
    assert not losses and "is not used: the run has begun" in caplog.text
    assert_same(jax.device_get(begun.params), jax.device_get(resumed.params))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 32}, r"attn/qkv/kernel is \[16, 48\], the model's \[32, 96\].*and 39 more"),
        ({"depth": 2}, "has depth=1 not 2; set config.model to the same"),
        ({"num_heads": 4, "gelu": "exact"}, "num_heads=2 not 4, gelu='tanh' not 'exact'"),
        ({"layer_scale": 0.0}, "blocks_0/ls1/gamma is not in the model"),
        ({"pooled": 32}, r"heads_0/kernel is \[16, 4\], the model's \[32, 4\]"),
    ],
)
def test_other_architectures_are_refused(source, change, message):
    config = config_from(source[0])
    config.model.update(change)
    task = create_task(config)
    shapes = jax.eval_shape(task.init, jax.random.key(0))
    variables = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    with pytest.raises(fluxjax.WeightsError, match=message):
        task.start_from(config.init_from, variables)


def test_missing_folders_fail_in_the_checks(tmp_path):
    with pytest.raises(ValueError, match=r"config.init_from: .*nowhere is not a folder"):
        check_config(config_from(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="is no inference checkpoint"):
        check_config(config_from(tmp_path))


def teacher(tmp_path, **fields):
    sizes = {"width": 16, "depth": 1, "num_heads": 2, "pooled": 16, "pool_heads": 2}
    model = fluxjax.create_model("internvideo2_s14", grid=(2, 3, 3), **(sizes | fields))
    video = np.zeros((1, 2, 42, 42, 3), np.float32)
    variables = jax.device_get(jax.jit(model.init)(jax.random.key(5), video))
    fluxjax.save(tmp_path / "teacher", model, variables)
    return model, variables


@pytest.mark.slow
def test_fluxvit_starts_from_internvideo2_as_from_its_official_weights(tmp_path):
    model, variables = teacher(tmp_path, num_classes=4)
    config = config_from(tmp_path / "teacher")
    found = started(config).params
    initial = fresh(config)
    expected, _ = init_fluxvit_from_internvideo2(
        {"params": initial}, fluxjax.to_torch(model, variables), num_frames=2
    )
    assert_same(found, jax.device_get(expected["params"]))
    assert_same(found["heads_1"], variables["params"]["head"])
    assert_same(found["gpe"], initial["gpe"])


@pytest.mark.slow
def test_a_backbone_with_separate_tables(tmp_path):
    _, variables = teacher(tmp_path, num_classes=None, separate_positions=True)
    config = config_from(tmp_path / "teacher")
    config.model.grid = (2, 3, 3)
    found, params = started(config).params, variables["params"]
    table = params["spatial_table"][None] + params["temporal_table"][:, None, None]
    np.testing.assert_allclose(found["position_table"], table, rtol=1e-6)
    assert_same(found["heads_0"], fresh(config)["heads_0"])


def test_another_system_registers_what_it_starts_from(tmp_path, monkeypatch):
    class Other(nn.Module):
        pass

    monkeypatch.setattr(starting, "_rules", dict(starting._rules))
    given, new = np.ones((2, 3), np.float32), np.zeros((2, 3), np.float32)
    model = fluxjax.create_model("fluxvit_ti14")
    fluxjax.save(tmp_path / "m", model, {"params": {"patch_embed": {"kernel": given}}})
    variables = {"params": {"stem": {"kernel": new}, "memory": {"kernel": new}}}
    with pytest.raises(fluxjax.WeightsError, match="a FluxViT; a Other starts from nothing"):
        starting.start_model(tmp_path / "m", Other(), variables)
    rule = starting.Rule(
        FluxViT,
        same=(),
        new=re.compile("memory/"),
        surplus=re.compile("(?!)"),
        renamed=lambda given, model: {"stem/kernel": given["patch_embed/kernel"]},
    )
    starting.register_start(Other, rule)
    started = starting.start_model(tmp_path / "m", Other(), variables)["params"]
    np.testing.assert_array_equal(started["stem"]["kernel"], given)
    np.testing.assert_array_equal(started["memory"]["kernel"], new)
    with pytest.raises(ValueError, match="Other has rules already"):
        starting.register_start(Other, rule)
