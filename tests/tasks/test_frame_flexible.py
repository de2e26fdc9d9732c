"""The task frame_flexible, and classify of networks without patches."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluxjax.config.keys import base_config, check_config
from fluxjax.evaluation.compute import forward_gmacs
from fluxjax.models import create_model
from fluxjax.tasks import create_task
from fluxjax.tasks.classify import ClassifyTask
from fluxjax.tasks.classify_dense import ClassifyDenseTask
from fluxjax.tasks.parameter_groups import network_groups
from fluxjax.tokens.grids import Grid
from tests import tiny
from tests.tasks import ffn_toy  # noqa: F401  registers the models

SIDE = 16


def config_for(name="toy_frames", task="frame_flexible", frames=(2, 4, 8)):
    config = base_config(name, task)
    config.method, config.budgets, config.num_classes = "cross_entropy", (), 4
    config.grids.frames, config.grids.resolutions = frames, (SIDE,)
    config.batch_size, config.data.flip = 4, False
    config.eval.grids = ("4x16", "5x16")
    config.imports = ("tests.tasks.ffn_toy",)
    return config


def batch_for(task, seed=0):
    rng = np.random.default_rng(seed)
    return {
        name: jnp.asarray(rng.integers(0, 4 if name == "label" else 256, spec.shape), spec.dtype)
        for name, spec in task.batch_spec(task.config.batch_size).items()
    }


@pytest.fixture(scope="module")
def trained():
    task = create_task(config_for())
    variables = jax.jit(task.init)(jax.random.key(0))
    return task, variables, batch_for(task)


def loss_of(task, variables, batch):
    return jax.jit(lambda v, b: task.loss(v, b, jax.random.key(1), task.plans()[0]))(
        variables, batch
    )


def test_an_example_is_a_clip_for_each_frame_number(trained):
    task, _, batch = trained
    check_config(task.config)
    assert {name: x.shape[1:] for name, x in batch.items()} == {
        "frames8_video": (8, SIDE, SIDE, 3), "frames4_video": (4, SIDE, SIDE, 3),
        "frames2_video": (2, SIDE, SIDE, 3), "label": (),
    }  # fmt: skip
    assert batch["frames8_video"].dtype == jnp.uint8


def test_labels_teach_the_most_frames_and_these_teach_the_others(trained):
    task, variables, batch = trained
    output = loss_of(task, variables, batch)
    pixels = task.model.pixels
    logits = {}
    for frames in (2, 4, 8):
        video = (batch[f"frames{frames}_video"] / 255 - np.array(pixels.mean)) / np.array(
            pixels.std
        )
        found, _ = task.model.apply(variables, video, train=True, mutable=["batch_stats"])
        logits[frames] = np.asarray(found, np.float64)
    softmax = {n: np.exp(x) / np.exp(x).sum(1, keepdims=True) for n, x in logits.items()}
    labels = np.asarray(batch["label"])
    wanted = {"ce": -np.log(softmax[8][np.arange(4), labels]).mean()}
    for n in (2, 4):
        ratio = np.log(softmax[8] / softmax[n])
        wanted[f"kl_{n}"] = (softmax[8] * ratio).sum(1).mean()
    assert output.terms.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_allclose(output.terms[name][0], value, rtol=1e-5)
    hits = {f"top1_{n}": (x.argmax(1) == labels).mean() for n, x in logits.items()}
    assert {name: float(x) for name, x in output.metrics.items()} == hits
    np.testing.assert_allclose(output.total, sum(wanted.values()), rtol=1e-5)


def test_every_branchs_statistics_move_in_one_step(trained):
    """Each by its own clip's alone; a network without branches takes one clip after the other."""
    task, variables, batch = trained
    after = loss_of(task, variables, batch).mutable["batch_stats"]
    before = variables["batch_stats"]
    assert after.keys() == before.keys() == {"norm_2", "norm_4", "norm_8"}
    means = []
    for frames in (2, 4, 8):
        video = batch[f"frames{frames}_video"] / 255
        video = (video - np.array(task.model.pixels.mean)) / np.array(task.model.pixels.std)
        params = variables["params"]["layer"]
        x = video.reshape(4 * frames, -1) @ params["kernel"] + params["bias"]
        moved = 0.9 * before[f"norm_{frames}"]["mean"] + 0.1 * x.mean(axis=0)
        np.testing.assert_allclose(after[f"norm_{frames}"]["mean"], moved, rtol=1e-4, atol=1e-5)
        means.append(np.asarray(x.mean(axis=0)))
    plain = create_task(config_for("toy_plain", "classify", (4,)))
    shared = {"params": plain.init(jax.random.key(0))["params"] | {
        name: variables["params"][name] for name in ("layer", "head")}}  # fmt: skip
    shared["batch_stats"] = {"norm_4": before["norm_8"]}
    videos = [batch[f"frames{n}_video"] / 127.5 - 1 for n in (8, 4, 2)]
    _, mutable = plain._forward(shared, videos, jax.random.key(0))
    expected = np.zeros(8)
    for video in videos:
        params = variables["params"]["layer"]
        x = video.reshape(-1, SIDE * SIDE * 3) @ params["kernel"] + params["bias"]
        expected = 0.9 * expected + 0.1 * x.mean(axis=0)
    np.testing.assert_allclose(
        mutable["batch_stats"]["norm_4"]["mean"], expected, rtol=1e-4, atol=1e-5
    )


def test_mixing_is_the_same_for_all_clips_of_a_video():
    """Every video is one grey; all its clips are mixed with the same partner, share and box."""
    config = config_for()
    config.mixing.prob, config.mixing.smoothing = 1.0, 0.1
    config.erasing.prob = 0.5
    task = create_task(config)
    greys = np.array([10, 80, 150, 220], np.uint8)
    batch = {name: np.broadcast_to(greys.reshape(4, 1, 1, 1, 1), spec.shape).astype(np.uint8)
             for name, spec in task.batch_spec(4).items() if name != "label"}  # fmt: skip
    batch["label"] = np.arange(4)
    kinds, inputs = set(), jax.jit(task._inputs)
    for seed in range(12):
        videos, targets, _ = inputs(batch, jax.random.key(seed))
        np.testing.assert_allclose(np.sum(targets, axis=1), 1.0, rtol=1e-5)
        eight, four, two = (np.asarray(video) for video in videos)
        assert [v.shape[1] for v in videos] == [8, 4, 2]
        # Erased pixels are noise, each clip's own; the others are equal in every frame and clip.
        same = np.isclose(eight[:, :1], eight).all(axis=(1, -1))
        for clip in (four, two):
            np.testing.assert_allclose(clip[:, 0][same], eight[:, 0][same], rtol=1e-5)
            assert (np.isclose(clip[:, :1], clip).all(axis=(1, -1)) == same).all()
        kinds.add(len(np.unique(eight[0, 0][same[0]].round(3))))
        assert not np.isclose(np.max(np.asarray(targets), axis=1), 0.925).all()
    assert len(kinds) > 1, "neither mixup nor cutmix was drawn"


def test_evaluation_takes_any_frame_number(trained):
    task, variables, _ = trained
    grid = Grid(5, SIDE)
    assert task.eval_plans(grid).keys() == {None}
    (spec,) = task.eval_example(grid).clips
    assert spec.arrays()["video"][0] == (5, SIDE, SIDE, 3)
    video = np.random.default_rng(0).integers(0, 256, (2, 5, SIDE, SIDE, 3), np.uint8)
    found = task.predict(variables, {"video": video}, task.eval_plans(grid)[None])
    stats = task.model.pixels
    clip = (video / 255 - np.array(stats.mean)) / np.array(stats.std)
    wanted = task.model.apply(variables, clip.astype(np.float32), branch=4)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    features = task.features(variables, {"video": video}, None)
    head = variables["params"]["head"]
    np.testing.assert_allclose(features @ head["kernel"] + head["bias"], found, atol=1e-5)
    assert forward_gmacs(task, grid, None) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["slowfast_ti_ffn", "uniformer_ti_ffn"])
def test_3d_networks_take_any_frame_number_by_the_nearest_branch(name):
    """Where the official code crashes."""
    config = config_for(name, frames=(8, 16, 32))
    config.grids.resolutions = (32,)
    task = create_task(config)
    variables = jax.jit(task.init)(jax.random.key(0))
    # Statistics that differ tell the branches apart.
    flat = flax.traverse_util.flatten_dict(variables["batch_stats"])
    flat = {path: x + int(path[-2][-1]) for path, x in flat.items()}
    variables["batch_stats"] = flax.traverse_util.unflatten_dict(flat)
    video = np.random.default_rng(0).integers(0, 256, (1, 13, 32, 32, 3), np.uint8)
    predict = jax.jit(lambda v, x: task.predict(v, {"video": x}, None))
    apply = jax.jit(task.model.apply, static_argnames="branch")
    found = predict(variables, video)
    np.testing.assert_allclose(found, apply(variables, video, branch=16), atol=1e-5)
    assert np.max(np.abs(found - apply(variables, video, branch=8))) > 1e-3


def test_a_network_without_patches_is_classified_from_dense_frames():
    config = config_for("toy_plain", "classify", (4,))
    check_config(config)
    task = create_task(config)
    assert type(task) is ClassifyDenseTask and type(create_task(tiny.get_config())) is ClassifyTask
    variables = task.init(jax.random.key(0))
    batch = batch_for(task)
    assert batch["video"].shape == (4, 4, SIDE, SIDE, 3)
    output = loss_of(task, variables, batch)
    assert output.terms.keys() == {"ce"} and output.metrics.keys() == {"top1_all"}
    moved = jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(a - b))), output.mutable["batch_stats"],
                         variables["batch_stats"])  # fmt: skip
    assert min(jax.tree.leaves(moved)) > 0
    held_out = task.losses(variables, batch, task.eval_plans(Grid(4, SIDE))[None])
    log_probs = jax.nn.log_softmax(task.predict(variables, batch, None))
    np.testing.assert_allclose(held_out["ce"], -log_probs[jnp.arange(4), batch["label"]], rtol=1e-6)


def test_groups_are_the_releases():
    """5 times the classifier's rate and 10 its bias's; norms and biases are not decayed."""
    config = config_for()
    config.optim.head_lr_scale, config.optim.head_bias_lr_scale = 5.0, 10.0
    task = create_task(config)
    groups = task.groups(jax.eval_shape(task.init, jax.random.key(0))["params"])
    said = jax.tree.map(lambda g: (g.lr_scale, g.decay), groups)
    assert said["head"] == {"kernel": (5.0, True), "bias": (10.0, False)}
    assert said["layer"] == {"kernel": (1.0, True), "bias": (1.0, False)}
    assert said["norm_4"] == {"scale": (1.0, False), "bias": (1.0, False)}


def test_slowfast_decays_its_classifiers_bias():
    model = create_model("slowfast_ti_ffn", 3, frames=(8, 16))
    video = jax.ShapeDtypeStruct((1, 16, SIDE, SIDE, 3), jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), video)["params"]
    groups = flax.traverse_util.flatten_dict(network_groups(model, params, config_for().optim))
    kept = {path[-1] for path, group in groups.items() if not group.decay}
    assert groups["head", "bias"].decay and kept == {"scale", "bias"}
    adapters = [group for path, group in groups.items() if "adaconv" in str(path)]
    assert adapters and all(group.decay for group in adapters)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budgets": (8,)}, r"no token budgets: set config.budgets=\(\) instead of \(8,\)"),
        ({"method": "flux_multi"}, "set config.method='cross_entropy' instead of 'flux_multi'"),
        ({"grids.frames": (8,)}, "at least two ascending frame numbers"),
        ({"grids.frames": (8, 4)}, "at least two ascending frame numbers"),
        ({"grids.resolutions": (16, 32)}, "trained at one resolution"),
        ({"model.frames": (2, 4)}, r"model.frames=\(2, 4\) must be config.grids.frames"),
        ({"frame_flexible.distillation": -1.0}, "distillation=-1.0 must not be negative"),
    ],
)
def test_what_cannot_be_trained_is_named(change, message):
    config = config_for()
    for key, value in change.items():
        *path, last = key.split(".")
        part = config
        for name in path:
            part = part[name]
        part[last] = value
    with pytest.raises(ValueError, match=message):
        check_config(config)


def test_models_of_another_kind_are_refused():
    config = base_config("clip_ti8", "frame_flexible")
    config.grids.frames = (2, 4)
    with pytest.raises(ValueError, match="clip_ti8 has no branches for frame numbers"):
        create_task(config)
    with pytest.raises(ValueError, match=r"config.grids.frames=\(2, 4\) names 2; leave one"):
        create_task(config_for("toy_plain", "classify", (2, 4)))
