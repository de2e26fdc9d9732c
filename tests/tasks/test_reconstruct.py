"""Pre-training by masking: which masks, one program for all grids, resuming, what is measured."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fluxjax.checkpoints.training import Checkpoints
from fluxjax.config.keys import base_config, check_config
from fluxjax.tasks import create_task
from fluxjax.tasks.reconstruct import EVAL_SEED, clip_keys
from fluxjax.tasks.reconstruct_targets import pixel_targets, pixels_of
from fluxjax.tokens.grids import Grid
from fluxjax.tokens.masking import hidden_tokens
from fluxjax.training import compilation, loop

SIZES = {
    "width": 16, "depth": 1, "num_heads": 2, "patch": 4, "grid": (4, 4), "num_frames": 4,
    "decoder_width": 8, "decoder_depth": 1, "decoder_heads": 1,
}  # fmt: skip


def config_of(mask="tube", frames=(2, 4), resolutions=(8, 16)):
    config = base_config("videomae_ti8_pretrain", "reconstruct")
    config.model.update(SIZES)
    config.reconstruct.mask, config.reconstruct.mask_ratio = mask, 0.75
    config.grids.frames, config.grids.resolutions = frames, resolutions
    config.grids.min_tokens, config.grids.max_tokens = 1, 100
    config.eval.grids, config.num_classes = ("4x16",), 4
    config.total_steps, config.batch_size, config.log_every = 8, 8, 1
    config.optim.warmup_steps, config.checkpoint.every_steps = 0, 3
    return config


@functools.cache
def parts(mask="tube"):
    task = create_task(config_of(mask))
    return task, jax.jit(task.init)(jax.random.key(0))


def batch_of(task, grids, seed=0):
    """A clip of noise on each of the grids."""
    rng = np.random.default_rng(seed)
    patches = rng.integers(0, 256, (len(grids), task.slots, 48), np.uint8)
    for row, grid in enumerate(grids):
        patches[row, grid.tokens(4) :] = 0
    return {
        "patches": patches,
        "grid": np.array([grid.shape(4) for grid in grids], np.int32),
        "example": np.arange(len(grids)) + 5,
    }


def on_device(batch):
    return {**batch, "example": batch["example"].astype(np.int32)}


@functools.cache
def jitted(mask="tube"):
    task, _ = parts(mask)
    step = lambda v, b, key: task.loss(v, b, key, task.plans()[0]).total  # noqa: E731
    masks = lambda b, key: task.mask(task.cubes(b, None), clip_keys(key, b["example"]))  # noqa: E731
    return jax.jit(step), jax.jit(masks)


def test_the_mask_of_a_clip_depends_on_nothing_else():
    task, _ = parts()
    _, masks = jitted()
    batch = on_device(batch_of(task, [Grid(4, 16)] * 6))
    key = jax.random.key(3)
    whole = masks(batch, key)
    part = {name: x[np.array([4, 1, 0])] for name, x in batch.items()}
    np.testing.assert_array_equal(masks(part, key), whole[jnp.array([4, 1, 0])])
    assert len(np.unique(whole, axis=0)) > 3, "clips of different videos have different masks"
    assert np.any(masks(batch, jax.random.key(4)) != whole), "so have different steps"
    halves = [masks({n: x[i : i + 3] for n, x in batch.items()}, key) for i in (0, 3)]
    np.testing.assert_array_equal(jnp.concatenate(halves), whole)


def test_several_clips_of_a_video_have_masks_of_their_own():
    keys = clip_keys(jax.random.key(0), jnp.array([3, 3, 1, 3]))
    assert len({tuple(jax.random.key_data(key).tolist()) for key in keys}) == 4
    alone = clip_keys(jax.random.key(0), jnp.array([1, 3]))
    np.testing.assert_array_equal(*map(jax.random.key_data, (alone, keys[jnp.array([2, 0])])))


@pytest.mark.parametrize("mask", ["tube", "random", "group_dynamic"])
def test_clips_on_different_grids_cost_what_they_cost_alone(mask):
    """The loss of a packed batch is the mean of each clip's, computed without padding."""
    task, variables = parts(mask)
    loss, masks = jitted(mask)
    grids = [Grid(4, 16), Grid(2, 16), Grid(4, 8), Grid(2, 8)]
    batch, key = on_device(batch_of(task, grids)), jax.random.key(9)
    drawn = masks(batch, jax.random.split(key)[0])
    alone = []
    for row, grid in enumerate(grids):
        one = {name: x[row : row + 1] for name, x in batch.items()}
        cubes = task.cubes(one, grid)
        hidden = drawn[row : row + 1, : cubes.valid.shape[1]]
        count = int(hidden.sum())
        predicted = task.model.apply(variables, cubes, hidden)
        targets = pixel_targets(cubes.values[hidden])
        assert predicted.shape[1] == count == len(targets)
        alone.append(float(jnp.mean((predicted[0] - targets) ** 2)))
    np.testing.assert_allclose(loss(variables, batch, key), np.mean(alone), rtol=1e-5)


def test_targets_of_flat_cubes_are_zero_and_pixels_come_back():
    rng = np.random.default_rng(0)
    cubes = rng.integers(0, 256, (3, 96), np.uint8)
    cubes[1] = 255
    targets = pixel_targets(jnp.asarray(cubes))
    assert not np.any(targets[1])
    one = cubes[0].reshape(-1, 3).astype(np.float64)
    expected = (one - one.mean(axis=0)) / (one.std(axis=0, ddof=1) + 1e-6)
    np.testing.assert_allclose(targets[0], expected.reshape(-1), atol=1e-5)
    np.testing.assert_allclose(pixels_of(targets, cubes), cubes, atol=1e-2)
    np.testing.assert_array_equal(pixel_targets(cubes, kind="bytes"), cubes)


def batches(task, first):
    """A pure function of the step; the grid changes with it."""
    config = task.config
    for step in range(first, config.total_steps):
        grid = task.grids[np.random.default_rng(step).integers(len(task.grids))]
        yield batch_of(task, [grid] * config.batch_size, step)


def run(config, workdir, stop_at=None):
    class Stop(Exception):
        pass

    def report(step, line, scalars):
        if step == stop_at:
            raise Stop

    task = create_task(config)
    trainer = loop.Trainer.create(task)
    with Checkpoints(workdir, keep=2) as checkpoints:
        try:
            return loop.train(trainer, lambda step: batches(task, step), checkpoints, report)
        except Stop:
            return None


@pytest.mark.parametrize("optimizer", ["lion"])
def test_one_program_for_all_grids_and_the_same_bits_after_a_stop(tmp_path, optimizer):
    config = config_of()
    config.optim.name, config.model.drop_path = optimizer, 0.2
    before = compilation.counts["train step reconstruct"]
    whole = run(config, tmp_path / "whole")
    drawn = {tuple(batch["grid"][0]) for batch in batches(create_task(config), 0)}
    assert len(drawn) >= 3 and compilation.counts["train step reconstruct"] - before == 1
    assert run(config, tmp_path / "stopped", stop_at=5) is None
    resumed = run(config, tmp_path / "stopped")
    jax.tree.map(np.testing.assert_array_equal, *map(jax.device_get, (whole, resumed)))


def test_training_learns():
    """A few steps on one batch: the loss falls well below 1, the error of predicting means."""
    task, variables = parts("random")
    ramp = np.tile(np.arange(16, dtype=np.uint8) * 9, (4, 1, 3)).reshape(4, 1, 48)
    batch = on_device(batch_of(task, [Grid(4, 16)] * 4))
    batch["patches"] = np.broadcast_to(ramp, (4, task.slots, 48)).copy()
    loss, _ = jitted("random")
    optimizer = optax.adam(0.02)

    @jax.jit
    def step(variables, state):
        value, grads = jax.value_and_grad(loss)(variables, batch, jax.random.key(0))
        updates, state = optimizer.update(grads, state)
        return optax.apply_updates(variables, updates), state, value

    state = optimizer.init(variables)
    for _ in range(40):
        variables, state, value = step(variables, state)
    assert value < 0.2, value


def test_what_is_measured():
    task, variables = parts()
    grid = Grid(4, 16)
    (plan,) = task.eval_plans(grid).values()
    batch = on_device(batch_of(task, [grid] * 3))
    losses = jax.jit(lambda v, b: task.losses(v, b, plan))(variables, batch)["mse"]
    part = {name: x[1:2] for name, x in batch.items()}
    again = task.losses(variables, part, plan)["mse"]
    np.testing.assert_allclose(again[0], losses[1], rtol=1e-5)  # its mask is its own
    assert task.features(variables, batch, plan).shape == (3, 16)
    pictures = task.reconstructions(variables, batch, plan)
    assert pictures.shape == (3, 3, 4, 16, 16, 3)
    cubes = task.cubes(batch, grid)
    video = batch["patches"].reshape(3, 4, 4, 4, 4, 4, 3).transpose(0, 1, 2, 4, 3, 5, 6)
    np.testing.assert_array_equal(pictures[:, 0], video.reshape(3, 4, 16, 16, 3))
    shown = np.all(np.asarray(pictures[:, 1] == pictures[:, 0]), axis=(-1,))
    assert np.mean(shown) < 0.3  # three quarters are hidden, and few grey pixels are there
    same = np.asarray(pictures[:, 2] == pictures[:, 0])[shown]
    assert np.mean(same) > 0.98, "what was seen stays as it is"
    assert cubes.valid.shape == (3, 32)


def test_groups_decay_the_mask_token_as_avion_does():
    task, variables = parts()
    groups = task.groups(variables["params"])
    assert groups["mask_token"].decay
    assert not groups["encoder"]["blocks_0"]["attn"]["q_bias"].decay
    assert not groups["decoder"]["norm"]["LayerNorm_0"]["scale"].decay
    assert groups["encoder_to_decoder"]["kernel"].decay


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reconstruct.mask": "tubes"}, r"unknown mask 'tubes'; choose one of"),
        ({"reconstruct.mask_ratio": 0.0}, r"config.reconstruct.mask_ratio=0.0 on 2x8 .* 0 of 4"),
        ({"reconstruct.mask_ratio": 1.0}, r"config.reconstruct.mask_ratio=1.0 .* leave some"),
        ({"reconstruct.mask_ratio": 0.2}, r"=0.2 on 2x8 of config.grids: .* hides 0 of 4 places"),
        ({"eval.grids": ("4x4",)}, r"=0.75 on 4x4 of config.eval.grids: .* hides 0 of 1 places"),
        ({"eval.grids": ("4x18",)}, r"config.eval.grids: 4x18 must .* multiple of the patch of 4"),
        ({"grids.resolutions": (18,)}, r"resolutions \[18\] are not multiples of the patch size 4"),
        ({"model.mask_ratio": 0.9}, r"config.model.mask_ratio=0.9 is taken from .*=0.75"),
        ({"reconstruct.target": "pixels"}, r"target='pixels' must be one of normalized, bytes, u"),
        ({"reconstruct.pictures": 0}, r"config.reconstruct.pictures must be at least 1"),
        ({"mixing.prob": 0.5}, r"config.mixing.prob=0.5 has no effect"),
        ({"erasing.prob": 0.5}, r"config.erasing.prob=0.5 has no effect"),
        ({"optim.name": "lions"}, r"must be one of adamw, lion"),
        ({"model.tubelet": 0}, r"config.model.tubelet=0 must be at least 1"),
        ({"model.num_heads": 3}, r"width=16 must be a multiple of num_heads=3"),
        ({"model.decoder_heads": 3}, r"decoder_width=8 must be a multiple of decoder_heads=3"),
    ],
)
def test_configs_that_cannot_work(changes, message):
    config = config_of()
    config.eval.budgets = (16,)
    check_config(config)
    config.update_from_flattened_dict(changes)
    with pytest.raises(ValueError, match=message) as error:
        check_config(config)
    assert "\n" not in str(error.value)


def test_probes_alone_need_no_mask():
    config = config_of()
    config.eval.grids, config.eval.evaluators = ("4x4",), ("knn",)
    check_config(config)


def test_a_model_without_a_decoder():
    with pytest.raises(ValueError, match="needs a model with a decoder"):
        check_config(base_config("fluxvit_ti14", "reconstruct"))


@pytest.mark.parametrize(("frames", "tubelet"), [(3, 2), (3, 1), (1, 2)])
def test_odd_frames_and_other_tubelets(frames, tubelet):
    """Clips that fill no tubelet: a single one's loss, and its pictures frame by frame."""
    config = config_of("random", (frames,), (8,))
    config.model.tubelet, config.model.num_frames = tubelet, frames
    config.reconstruct.target, config.eval.grids = "unit", (f"{frames}x8",)
    task, grid, key = create_task(config), Grid(frames, 8), jax.random.key(1)
    variables = jax.jit(task.init)(jax.random.key(0))
    batch = on_device(batch_of(task, [grid]))
    (plan,) = task.eval_plans(grid).values()

    @jax.jit
    def run(variables, batch):
        cubes = task.cubes(batch, grid)
        keys = (jax.random.split(key)[0], jax.random.key(EVAL_SEED))
        mask, held_out = (task.mask(cubes, clip_keys(k, batch["example"])) for k in keys)
        count = hidden_tokens(cubes.static_grid, "random", 0.75)
        slots = (mask.shape[1] - count, count)
        predicted = task.model.apply(variables, cubes, mask, slots=slots)
        loss = task.loss(variables, batch, key, task.plans()[0]).total
        pictures = task.reconstructions(variables, batch, plan)
        return cubes.values, mask, held_out, predicted, loss, pictures

    values, mask, held_out, predicted, loss, pictures = map(np.asarray, run(variables, batch))
    assert values.shape == (1, -(-frames // tubelet) * 4, tubelet * 48)
    errors = np.square(predicted[0] - values[mask].astype(np.float32) / 255)
    np.testing.assert_allclose(loss, np.mean(errors), rtol=1e-5)
    video = batch["patches"].reshape(frames, 2, 2, 4, 4, 3).transpose(0, 1, 3, 2, 4, 5)
    np.testing.assert_array_equal(pictures[0, 0], video.reshape(frames, 8, 8, 3))
    grey = np.all(pictures[0, 1] == 128, axis=-1).reshape(frames, 2, 4, 2, 4)
    hidden = grey.all(axis=(2, 4)).reshape(frames, 4)
    for frame in range(frames):  # each frame of a tubelet hides the same places
        np.testing.assert_array_equal(hidden[frame], held_out.reshape(-1, 4)[frame // tubelet])
