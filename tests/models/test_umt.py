"""UMT and BERT: what the goldens do not show."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxjax
from fluxjax.models.bert import Bert
from fluxjax.models.umt_compute import encoder_gmacs, tokens_after_blocks
from fluxjax.models.umt_encoder import UmtEncoder
from fluxjax.models.umt_sizes import merge_schedule
from fluxjax.models.umt_vision import UmtClassifier, UmtVision

SIZES = {"width": 32, "depth": 3, "num_heads": 2, "patch": 4}
TEXT = {
    "embedding": 8, "vocabulary": 20, "text_width": 16, "text_depth": 3, "text_heads": 2,
    "text_hidden": 24, "text_length": 9, "fusion_layer": 1,
}  # fmt: skip


def clips(batch=3, frames=3, rows=3, columns=4):
    shape = (batch, frames, 4 * rows, 4 * columns, 3)
    return np.random.default_rng(0).standard_normal(shape, np.float32)


@functools.cache
def vision():
    model = UmtVision(**SIZES)
    return model, jax.jit(model.init)(jax.random.key(0), clips())


@functools.cache
def encode(merge=(), **options):
    return jax.jit(lambda v, x: vision()[0].apply(v, x, merge, method="encode_video", **options))


@pytest.mark.parametrize("merge", [(), (10, 0, 0.2)])
def test_a_batch_is_its_clips(merge):
    _, variables = vision()
    tokens, pooled = encode(merge)(variables, clips())
    assert tokens.shape == (3, 36 if not merge else 26 - 5, 32)
    for b, clip in enumerate(clips()):
        one, mean = encode(merge)(variables, clip[None])
        np.testing.assert_allclose(tokens[b], one[0], atol=2e-5)
        np.testing.assert_allclose(pooled[b], mean[0], atol=2e-5)


def test_pooling_by_mass_and_clips_that_stand_still():
    """Of a clip without any detail: finite, and merging changes little with the tokens' mass."""
    model, variables = vision()
    weighted = encode((10, 8), pool_by_mass=True)
    assert all(np.all(np.isfinite(out)) for out in weighted(variables, np.zeros_like(clips())))
    tokens, pooled = weighted(variables, clips())
    mass_of = jax.jit(
        lambda v, x: model.apply(v, x, (10, 8), method=lambda m, *x: m.encoder(*x).mass)
    )
    mass = np.asarray(mass_of(variables, clips()))
    mean = np.einsum("bnc,bn->bc", tokens, mass) / np.sum(mass, axis=1)[:, None]
    normed = (mean - mean.mean(1)[:, None]) / np.sqrt(mean.var(1)[:, None] + 1e-6)
    np.testing.assert_allclose(pooled, normed, atol=1e-4)  # scale 1 and bias 0 at the start
    plain = np.mean(tokens, axis=1)
    assert np.abs(plain - mean).max() > 1e-3


def test_gradients_through_merging_are_finite():
    _, variables = vision()
    loss = jax.jit(jax.grad(lambda v, x: jnp.sum(encode((10, 8))(v, x)[1] ** 3)))
    for x in (clips(), np.zeros_like(clips())):
        assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(loss(variables, x)))


def test_a_classifier_of_a_part_of_the_tokens():
    model = UmtClassifier(**SIZES, num_classes=4, grid=(3, 3, 4))
    video = clips()
    variables = jax.jit(model.init)(jax.random.key(0), video)
    run = jax.jit(model.apply, static_argnums=(2, 3))
    _, features = run(variables, video, 36, True)
    np.testing.assert_allclose(features, run(variables, video, None, True)[1], atol=1e-5)
    kept = jax.jit(lambda v, x: model.apply(v, x, 20, method=lambda m, *a: m.encoder.changing(*a)))
    kept = np.asarray(kept(variables, video))
    assert kept.shape == (3, 20) and np.all(np.diff(kept, axis=1) > 0) and kept.max() < 36
    hidden = np.ones((3, 36), bool)
    np.put_along_axis(hidden, kept, False, axis=1)
    other = np.where(unfolded(hidden), video + 0.1, video)  # what is not kept is not seen
    assert model.frozen(("encoder", "position_table")) and not model.frozen(("head", "bias"))
    few = run(variables, video, 20, True)[1]
    assert np.abs(few - features).max() > 1e-3
    seen = jax.jit(
        lambda v, x: model.apply(v, x, (), kept, method=lambda m, *a: m.encoder(*a).layers[-1])
    )
    np.testing.assert_allclose(seen(variables, video), seen(variables, other), atol=1e-6)


def unfolded(tokens):
    """[B, 36] of tokens -> [B, 3, 12, 16, 1] of pixels."""
    grid = tokens.reshape(-1, 3, 3, 4)
    return grid.repeat(4, axis=2).repeat(4, axis=3)[..., None]


@functools.cache
def umt(**fields):
    model = fluxjax.create_model("umt_ti8", None, **(SIZES | TEXT | fields))
    return model, jax.jit(model.init)(jax.random.key(0), clips())


def test_every_part_has_parameters_and_a_checkpoint_keeps_them(tmp_path):
    model, variables = umt(answer_layers=1, token_head=True, taught_layers=2, taught_width=8)
    fluxjax.save(tmp_path / "umt", model, variables)
    again, loaded = fluxjax.load(tmp_path / "umt")
    assert again == model
    state = fluxjax.to_torch(again, loaded)
    names = {name.split(".")[0] for name in state}
    assert names == {
        "vision_encoder", "text_encoder", "text_decoder", "vision_proj", "text_proj", "itm_head",
        "temp",
    }  # fmt: skip
    there = fluxjax.load_torch("umt", state, num_heads=2, text_heads=2)
    jax.tree.map(np.testing.assert_array_equal, there[1], variables)
    assert there[0] == model
    assert float(state["temp"]) == pytest.approx(0.07)
    apply = jax.jit(model.apply)
    video, text = apply(variables, clips(), np.ones((3, 6), np.int32))
    np.testing.assert_allclose(video, apply(variables, clips()), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(text, axis=-1), 1, rtol=1e-5)


def test_padding_of_texts_changes_nothing():
    model, variables = umt()
    ids = np.random.default_rng(0).integers(1, 20, (3, 6))
    longer = np.pad(ids, ((0, 0), (0, 3)), constant_values=7)
    mask = np.pad(np.ones_like(ids), ((0, 0), (0, 3)))
    video = np.random.default_rng(1).standard_normal((3, 5, 32), np.float32)

    @jax.jit
    def match(ids, mask):
        text = model.apply(variables, ids, mask, method="encode_text")
        return model.apply(variables, text, mask, video, method="match")

    short = match(ids, np.ones_like(ids))
    np.testing.assert_allclose(match(longer, mask), short, atol=1e-5)
    with pytest.raises(ValueError, match="texts of 10 tokens are longer than the 9 rows"):
        model.apply(variables, np.ones((1, 10), int), np.ones((1, 10), int), method="encode_text")


def test_several_texts_share_a_video():
    """Two in a row each, as if each had its own; padded questions of several answers, too."""
    model, variables = umt(answer_layers=1)
    rng = np.random.default_rng(0)
    text = rng.standard_normal((6, 5, 16), np.float32)
    mask = (np.arange(5) < np.array([5, 4, 3, 5, 2, 1])[:, None]).astype(np.int32)
    video = rng.standard_normal((3, 7, 32), np.float32)
    match = jax.jit(functools.partial(model.apply, method="match"))
    own = match(variables, text, mask, video.repeat(2, axis=0))
    np.testing.assert_allclose(match(variables, text, mask, video), own, atol=1e-5)
    assert np.ptp(own[:, 1]) > 1e-3
    question, asked = text[:3], mask[[1, 2, 5]]
    answer = jax.jit(functools.partial(model.apply, method="answer_logits"))
    ids = rng.integers(1, 20, (6, 5))
    own = answer(variables, ids, mask, question.repeat(2, axis=0), asked.repeat(2, axis=0))
    np.testing.assert_allclose(answer(variables, ids, mask, question, asked), own, atol=1e-5)


def test_the_decoder_looks_back_only():
    model = Bert(vocabulary=20, width=16, depth=2, num_heads=2, hidden=24, max_length=9)
    ids = np.random.default_rng(0).integers(1, 20, (2, 6))
    variables = jax.jit(model.init)(jax.random.key(0), ids)
    run = jax.jit(functools.partial(model.apply, causal=True))
    changed = ids.copy()
    changed[:, 4] = (ids[:, 4] + 1) % 20
    before, after = run(variables, ids), run(variables, changed)
    np.testing.assert_allclose(before[:, :4], after[:, :4], atol=1e-6)
    assert np.abs(before - after)[:, 4:].max() > 1e-3


def test_published_schedules():
    assert merge_schedule("msrvtt") == (600, 200, 100)
    assert merge_schedule("didemo", "l16") == (800, 100)
    with pytest.raises(ValueError, match="'msrvtt_mc', 'b16'; known: msrvtt"):
        merge_schedule("msrvtt_mc")
    b16 = fluxjax.create_model("umt_b16", None)
    assert tokens_after_blocks(2352, (600, 200, 100), 12)[:4] == (1752, 1552, 1452, 1452)
    assert tokens_after_blocks(64, (0, 100, 0.5), 4) == (64, 32, 16, 16)
    assert b16.depth == 12


@pytest.mark.parametrize(
    ("task", "published"), [(None, 303.1), ("msrvtt", 177.8), ("msvd", 181.1), ("msvd_qa", 188.4)]
)
def test_the_encoder_costs_what_vid_tldr_measures(task, published):
    model = fluxjax.create_model("umt_vision_b16", None)
    merge = () if task is None else merge_schedule(task)
    assert encoder_gmacs(model, (12, 14, 14), merge) == pytest.approx(published, rel=1e-3)


@pytest.mark.parametrize("merge", [(), (10, 0, 0.2)])
def test_the_closed_form_counts_every_product(merge):
    model = UmtEncoder(**SIZES)
    variables = jax.eval_shape(model.init, jax.random.key(0), clips())
    program = jax.make_jaxpr(lambda v, x: model.apply(v, x, merge))(variables, clips())
    # Where tokens merge, values have one column more, their mass.
    slack = 0.01 if merge else 1e-9
    counted = products(program.jaxpr) / len(clips()) / 1e9
    assert counted == pytest.approx(encoder_gmacs(model, (3, 3, 4), merge), rel=slack)


def products(jaxpr):
    """Multiply-accumulates of the matrix products in a program, loops turn by turn."""
    total = 0
    for equation in jaxpr.eqns:
        assert equation.primitive.name != "while"
        turns = equation.params["length"] if equation.primitive.name == "scan" else 1
        if equation.primitive.name == "dot_general":
            (inner, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            total += equation.outvars[0].aval.size * np.prod([shape[i] for i in inner])
        for value in equation.params.values():
            inside = getattr(value, "jaxpr", value)
            total += turns * products(inside) if hasattr(inside, "eqns") else 0
    return total
