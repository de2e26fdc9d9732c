"""Flux-CLIP: any grid, several budgets with one text pass, and what it starts from."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxjax
from fluxjax.checkpoints.starting import start_model
from fluxjax.checkpoints.text_towers import start_text
from fluxjax.weight_files.errors import WeightsError
from tests.models.test_fluxvit import BUDGETS, GRIDS, SIZE, clip, dense

TEXT = {"embedding": 8, "text_width": 16, "text_depth": 1, "text_heads": 2, "vocab_size": 50,
        "context_length": 6}  # fmt: skip
IDS = np.array([[48, 3, 7, 49, 0, 0], [48, 9, 49, 0, 0, 0]], np.int32)


@functools.cache
def model_and_variables():
    model = fluxjax.create_model("flux_clip_ti14", None, budgets=BUDGETS, **SIZE, **TEXT)
    return model, noisy(jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 2, 28, 28, 3))))


def noisy(variables):
    leaves, tree = jax.tree.flatten(jax.device_get(variables))
    draw = np.random.default_rng(1)
    leaves = [x + np.float32(0.2) * draw.standard_normal(x.shape, np.float32) for x in leaves]
    return jax.tree.unflatten(tree, leaves)


@pytest.mark.slow
def test_packed_clips_of_mixed_grids_are_embedded_as_each_alone():
    model, variables = model_and_variables()
    run = jax.jit(functools.partial(model.apply, budget=12, method="encode_video"))
    packed = run(variables, fluxjax.pack([clip(grid) for grid in GRIDS], max_tokens=40))
    for row, grid in zip(packed, GRIDS, strict=True):
        expected = run(variables, dense(clip(grid)))[0]
        np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-4)
    assert packed.shape == (len(GRIDS), 8) and np.ptp(packed, axis=0).min() > 1e-2


def test_all_budgets_share_one_pass_of_the_text():
    model, variables = model_and_variables()
    texts = []

    def count(call, inputs, options, context):
        if context.module.name == "text" and context.method_name == "__call__":
            texts.append(context.module)
        return call(*inputs, **options)

    video = jnp.stack([dense(clip((8, 2, 2), seed))[0] for seed in (1, 2)])
    with nn.intercept_methods(count):
        videos, text, scale = jax.jit(functools.partial(model.apply, method="embed_budgets"))(
            variables, video, IDS
        )
    assert len(texts) == 1 and len(videos) == 3
    one = jax.jit(functools.partial(model.apply), static_argnums=3)
    for number, budget in enumerate(BUDGETS):
        alone, same_text, same_scale = one(variables, video, IDS, budget)
        np.testing.assert_allclose(videos[number], alone, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(text, same_text, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(alone, axis=-1), 1, rtol=1e-5)
        assert scale == same_scale
    assert np.max(np.abs(videos[0] - videos[2])) > 1e-2
    np.testing.assert_allclose(scale, np.exp(variables["params"]["logit_scale"]), rtol=1e-6)


def test_last_tokens_come_with_the_embedding_and_are_those_of_a_fluxvit():
    model, variables = model_and_variables()
    tower = fluxjax.create_model("fluxvit_ti14", None, budgets=BUDGETS, **SIZE)
    video = dense(clip((8, 2, 2)))
    (embedded, tokens), (_, expected) = jax.jit(
        lambda v, x: [m.apply(v, x, budget=12, return_tokens=True) for m in (model, tower)]
    )(variables, video)
    assert embedded.shape == (1, 8) and tokens.values.shape == (1, 12, SIZE["width"])
    np.testing.assert_allclose(tokens.values, expected.values, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(tokens.position, expected.position)
    alone = functools.partial(model.apply, budget=12)
    np.testing.assert_allclose(embedded, jax.jit(alone)(variables, video), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="leave out ids"):
        jax.eval_shape(
            lambda v, x: model.apply(v, x, IDS[:1], return_tokens=True), variables, video
        )


def test_the_temperature_is_bounded_and_can_be_frozen():
    model, _ = model_and_variables()
    assert not model.frozen(("logit_scale",)) and model.bounds(("proj", "kernel")) is None
    np.testing.assert_allclose(np.exp(model.bounds(("logit_scale",))), (1, 100))
    assert model.clone(train_temperature=False).frozen(("logit_scale",))
    assert model.layer_id(("text", "blocks_0")) == model.depth + 1


@pytest.mark.slow
def test_towers_start_from_a_pretrained_student_and_from_clip(tmp_path):
    """The video tower from a Flux-UMT student, the text tower from another dual encoder."""
    model, variables = model_and_variables()
    student = fluxjax.create_model(
        "fluxvit_student_ti14", 0, budgets=BUDGETS, **SIZE, teacher_width=4, teacher_final=4
    )
    visible = [fluxjax.models.students.Visible(jnp.zeros((1, 1), jnp.int32))] * 3
    init = functools.partial(student.init, method="align")
    given = noisy(jax.jit(init)(jax.random.key(1), jnp.zeros((1, 2, 28, 28, 3)), visible))
    fluxjax.save(tmp_path / "student", student, given)
    started = start_model(tmp_path / "student", model, variables)["params"]
    for name in ("blocks_1", "poolers_2", "patch_embed", "position_table"):
        jax.tree.map(np.testing.assert_array_equal, started[name], given["params"][name])
    for name in ("text", "proj", "logit_scale"):
        jax.tree.map(np.testing.assert_array_equal, started[name], variables["params"][name])

    other = fluxjax.create_model("avion_ti8", None, **{**TEXT, "width": 8, "num_heads": 2})
    fields = {"gelu": "quick", "depth": 1, "grid": (2, 2), "num_frames": 2}
    other = other.clone(**fields)
    theirs = noisy(jax.jit(other.init)(jax.random.key(2), jnp.zeros((1, 2, 16, 16, 3)), IDS[:1]))
    fluxjax.save(tmp_path / "clip", other, theirs)
    both = start_text(str(tmp_path / "clip"), model, {"params": started})["params"]
    jax.tree.map(np.testing.assert_array_equal, both["text"], theirs["params"]["text"])
    jax.tree.map(np.testing.assert_array_equal, both["blocks_1"], started["blocks_1"])
    fluxjax.save(tmp_path / "dual", model, {"params": both})
    classifier = fluxjax.create_model("fluxvit_ti14", 3, budgets=BUDGETS, **SIZE)
    fresh = jax.jit(classifier.init)(jax.random.key(3), jnp.zeros((1, 2, 28, 28, 3)))
    final = start_model(tmp_path / "dual", classifier, fresh)["params"]
    jax.tree.map(np.testing.assert_array_equal, final["blocks_1"], both["blocks_1"])
    assert jax.tree.structure(final) == jax.tree.structure(fresh["params"])
    with pytest.raises(WeightsError, match="gelu='quick' not 'exact'"):
        exact = model.clone(text_gelu="exact")
        start_text(str(tmp_path / "clip"), exact, {"params": started})
    with pytest.raises(WeightsError, match="FluxStudent without CLIP's text tower"):
        start_text(str(tmp_path / "student"), model, {"params": started})
