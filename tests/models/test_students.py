"""Students in any packing, what starts from them, and InternVideo2 at a budget."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxjax
from fluxjax.checkpoints.starting import start_from
from fluxjax.models.students import Visible
from fluxjax.tokens.tokens import pack

SIZES = {"width": 16, "depth": 2, "num_heads": 2, "grid": (2, 2, 2), "pooled": 8, "pool_heads": 2}
STUDENT = {"taught_layers": 2, "teacher_width": 6, "teacher_final": 5}
BUDGETS = (6, 4)


@functools.cache
def student(name="fluxvit_student_ti14", **fields):
    if name.startswith("fluxvit"):
        fields["budgets"] = BUDGETS
    model = fluxjax.create_model(name, 0, **SIZES, **STUDENT, **fields)
    visible = [Visible(jnp.zeros((1, 1), jnp.int32)) for _ in BUDGETS]
    video = jnp.zeros((1, 2, 28, 28, 3))
    shapes = jax.eval_shape(
        lambda key: model.init(key, video, visible, method="align"), jax.random.key(0)
    )
    rng = np.random.default_rng(0)
    draw = lambda x: 0.3 * rng.standard_normal(x.shape, np.float32)  # noqa: E731
    return model, jax.tree.map(draw, shapes)


def clips(frames, side, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (frames, side, side, 3), np.uint8)


@pytest.mark.parametrize("name", ["fluxvit_student_ti14", "internvideo2_student_s14"])
def test_padding_and_other_grids_in_the_batch_change_nothing(name):
    model, variables = student(name)
    short, long = clips(2, 28), clips(3, 42, seed=1)
    batch = pack([short, long], 30, max_grid=(3, 3, 3))
    index = np.array([[0, 2, 3, 5, 6, 7], [1, 4, 9, 13, 20, 26]])
    visible = [Visible(jnp.asarray(index[:, :n]), jnp.ones((2, n), bool)) for n in BUDGETS]
    align = jax.jit(lambda v, x, *seen: model.apply(v, x, seen, method="align"))
    together = align(variables, batch, *visible)
    for row, clip in enumerate((short, long)):
        seen = [Visible(one.index[row : row + 1]) for one in visible]
        for mine, ours in zip(align(variables, clip[None], *seen), together, strict=True):
            np.testing.assert_allclose(mine.middle[:, 0], ours.middle[:, row], atol=2e-5)
            np.testing.assert_allclose(mine.final[0], ours.final[row], atol=2e-5)
    assert together[0].middle.shape == (2, 2, 7, 6) and together[1].final.shape == (2, 5)
    norms = np.linalg.norm(together[0].middle, axis=-1)
    np.testing.assert_allclose(norms, 1, rtol=1e-5)


def test_slots_without_a_token_change_nothing():
    model, variables = student()
    video, index = clips(2, 28)[None], np.array([[0, 2, 3, 7]])
    more, valid = np.array([[0, 2, 3, 7, 5, 6]]), np.array([[1, 1, 1, 1, 0, 0]], bool)
    align = jax.jit(lambda v, x, *seen: model.apply(v, x, seen, method="align"))
    (padded,), (plain,) = (
        align(variables, video, seen) for seen in (Visible(more, valid), Visible(index))
    )
    np.testing.assert_allclose(padded.middle[:, :, :5], plain.middle, atol=2e-5)
    np.testing.assert_allclose(padded.final, plain.final, atol=2e-5)


def test_fields_of_the_decoders():
    _, variables = student(taught_positions=False, final_decoders="per_budget", hidden=False)
    params = variables["params"]
    assert "position_table" not in params["token_decoders"]
    assert "hidden" not in params["token_decoders"]["decoders_0"]
    assert {"final_decoder_0", "final_decoder_1"} <= set(params)
    _, variables = student()
    assert variables["params"]["token_decoders"]["position_table"].shape == (2, 2, 2, 16)
    assert "hidden" in variables["params"]["final_decoder_0"]
    assert "final_decoder_1" not in variables["params"]


def test_a_classifier_starts_from_a_student():
    source, given = student()
    model = fluxjax.create_model("fluxvit_ti14", 3, budgets=BUDGETS, **SIZES)
    fresh = jax.jit(model.init)(jax.random.key(1), jnp.zeros((1, 2, 28, 28, 3)))
    started = start_from(source, given, model, fresh, "here")["params"]
    for name in ("patch_embed", "blocks_1", "poolers_0", "poolers_1", "position_table"):
        jax.tree.map(np.testing.assert_array_equal, started[name], given["params"][name])
    jax.tree.map(np.testing.assert_array_equal, started["heads_0"], fresh["params"]["heads_0"])
    assert set(started) == set(fresh["params"])


def test_internvideo2_at_a_budget():
    """It keeps what a selection by its own patch embedding keeps, at their places."""
    model = fluxjax.create_model("internvideo2_ti14", 3, **SIZES)
    video = clips(4, 28)[None]
    variables = jax.jit(model.init)(jax.random.key(0), video)
    variables = jax.tree.map(lambda x: x + 0.1 * jnp.cos(jnp.arange(x.size)).reshape(x.shape),
                             variables)  # fmt: skip

    @jax.jit
    def forwards(video, tokens):
        logits = [model.apply(variables, video, budget=n) for n in (None, 16, 8)]
        return *logits, model.apply(variables, tokens, budget=8)

    full, whole, cut, packed = forwards(video, pack([video[0]], 20, max_grid=(4, 2, 2)))
    np.testing.assert_allclose(whole, full, atol=1e-6)
    np.testing.assert_allclose(packed, cut, atol=1e-5)
    assert np.max(np.abs(cut - full)) > 1e-3
