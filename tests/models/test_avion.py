"""AVION's models: sizes, any grid and text, what training drops, and remat."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

import fluxjax
from fluxjax.tokens.tokens import normalize_pixels

SIZES = {
    "width": 16, "depth": 2, "num_heads": 2, "patch": 4, "grid": (2, 2), "num_frames": 3,
    "embedding": 8, "text_width": 16, "text_depth": 2, "text_heads": 2, "vocab_size": 30,
    "context_length": 6,
}  # fmt: skip
VIDEO = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8, 3), np.uint8)
IDS = np.array([[28, 3, 29, 0, 0, 0], [28, 29, 29, 5, 0, 0]], np.int32)


@functools.cache
def drawn(num_classes=None, **fields):
    model = fluxjax.create_model("avion_ti8", num_classes, **SIZES | fields)
    ids = () if num_classes else (IDS,)
    variables = jax.jit(model.init)(jax.random.key(0), VIDEO, *ids)
    generator = np.random.default_rng(1)
    draw = lambda x: np.asarray(x + 0.2 * generator.standard_normal(x.shape, np.float32))  # noqa: E731
    return model, jax.tree.map(draw, variables)


@pytest.mark.parametrize(
    ("name", "side", "count"),
    [("b16", 224, 149_296_129), ("l14", 224, 426_703_105), ("l14_336", 336, 427_030_785)],
)
def test_published_numbers_of_parameters(name, side, count):
    model = fluxjax.create_model(f"avion_{name}", None)
    video = jax.ShapeDtypeStruct((1, 4, side, side, 3), jnp.float32)
    ids = jax.ShapeDtypeStruct((1, 77), jnp.int32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), video, ids)
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)) == count
    tower = shapes["params"]["tower"]
    assert tower["position_table"].shape == (
        1,
        side // model.patch,
        side // model.patch,
        model.width,
    )


def test_embeddings_are_unit_vectors_of_what_the_towers_give():
    model, variables = drawn()
    video, text, scale = model.apply(variables, VIDEO, IDS)
    assert video.dtype == text.dtype == scale.dtype == jnp.float32
    for found, method, given in ((video, "encode_video", VIDEO), (text, "encode_text", IDS)):
        raw = model.apply(variables, given, method=method)
        np.testing.assert_allclose(
            found, raw / np.linalg.norm(raw, axis=1, keepdims=True), rtol=1e-5
        )
    np.testing.assert_allclose(scale, np.exp(variables["params"]["logit_scale"]), rtol=1e-6)
    floats = normalize_pixels(jnp.asarray(VIDEO), model.pixels)
    encode = functools.partial(model.apply, variables, method="encode_video")
    np.testing.assert_allclose(encode(floats), encode(VIDEO), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("grid", [(5, 2, 2), (1, 2, 2), (3, 3, 1), (2, 1, 4)], ids=str)
def test_other_grids_are_those_of_resampled_tables(grid):
    model, variables = drawn()
    frames, rows, columns = grid
    clip = np.random.default_rng(2).standard_normal(
        (1, frames, 4 * rows, 4 * columns, 3), np.float32
    )
    encode = lambda model, variables: model.apply(variables, clip, method="encode_video")  # noqa: E731
    found = encode(model, variables)
    state = fluxjax.to_torch(model, variables)
    told = {"num_heads": 2, "text_heads": 2, "grid": (rows, columns)}
    if frames > 1:
        told |= {"num_frames": frames, "temporal": "resume"}
    stored = encode(*fluxjax.load_torch("avion", state, **told))
    np.testing.assert_allclose(found, stored, rtol=1e-4, atol=1e-5)


def test_frames_have_an_order_and_images_are_clips_of_one():
    model, variables = drawn()
    encode = jax.jit(functools.partial(model.apply, variables, method="encode_video"))
    assert np.abs(encode(VIDEO) - encode(VIDEO[:, ::-1])).max() > 1e-3
    np.testing.assert_array_equal(encode(VIDEO[:, 0]), encode(VIDEO[:, :1]))


def test_texts_may_be_shorter_and_what_follows_their_end_does_not_matter():
    model, variables = drawn()
    encode = functools.partial(model.apply, variables, method="encode_text")
    whole = encode(IDS)
    np.testing.assert_allclose(encode(IDS[:, :4]), whole, rtol=1e-4, atol=1e-6)
    changed = IDS.copy()
    changed[:, 4:] = 7
    np.testing.assert_allclose(encode(changed), whole, rtol=1e-4, atol=1e-6)
    changed[0, 1] = 4
    assert np.abs(encode(changed) - whole)[0].max() > 1e-3
    for wrong, message in (
        (np.zeros((1, 7), np.int32), "7 token ids do not fit context_length=6"),
        (IDS.astype(np.float32), "token ids must be integers"),
        (IDS[0], r"integers \[B, L\]"),
    ):
        with pytest.raises(ValueError, match=message):
            encode(wrong)
    with pytest.raises(ValueError, match="4 token ids do not fit"):
        model.clone(causal=False).apply(variables, IDS[:, :4], method="encode_text")


def test_a_classifier_drops_only_in_training():
    model, variables = drawn(5, drop_path=0.5, patch_dropout=0.5, head_dropout=0.5)
    logits, features = model.apply(variables, VIDEO, return_features=True)
    assert logits.shape == (2, 5) and features.shape == (2, 16)
    head = variables["params"]["head"]
    expected = features @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)

    def train(seed):
        return model.apply(variables, VIDEO, train=True, rngs={"dropout": jax.random.key(seed)})

    np.testing.assert_array_equal(train(0), train(0))
    assert np.abs(train(0) - train(1)).max() > 1e-3
    for call in ({"ids": IDS}, {"ids": IDS, "train": True}):
        with pytest.raises(ValueError, match="num_classes=5.* has no text tower"):
            model.apply(variables, VIDEO, **call)


@pytest.mark.parametrize(("rate", "kept"), [(0.5, 6), (0.99, 1)])
def test_patch_dropout_keeps_other_tokens_of_each_clip_and_cls(rate, kept):
    model, variables = drawn(patch_dropout=rate)

    def blocks_of(seed):
        def record(call, inputs, options, context):
            if context.module.name == "blocks_0":
                seen.append(inputs[0])
            return call(*inputs, **options)

        seen = []
        with nn.intercept_methods(record):
            rngs = {"dropout": jax.random.key(seed)}
            same = np.repeat(VIDEO[:1], 4, axis=0)
            model.apply(variables, same, train=True, rngs=rngs, method="encode_video")
        return np.asarray(seen[0])

    x = blocks_of(0)
    assert x.shape == (4, 1 + kept, 16)
    np.testing.assert_allclose(x[:, 0], x[:1, 0].repeat(4, 0), atol=1e-6)
    assert len({row.tobytes() for row in np.sort(x[:, 1:, 0], axis=1)}) > 1, "other tokens"


def test_layer_scale_scales_both_branches():
    model, variables = drawn(5, layer_scale=0.1)
    plain = fluxjax.create_model("avion_ti8", 5, **SIZES)
    params = jax.tree.map(np.copy, variables["params"])
    for block in (params["tower"]["blocks_0"], params["tower"]["blocks_1"]):
        for scale, last in (("ls1", block["attn"]["out"]), ("ls2", block["mlp"]["fc2"])):
            gamma = block.pop(scale)["gamma"]
            last["kernel"], last["bias"] = last["kernel"] * gamma, last["bias"] * gamma
    expected = plain.apply({"params": params}, VIDEO)
    np.testing.assert_allclose(model.apply(variables, VIDEO), expected, rtol=1e-4, atol=1e-5)


def test_layers_and_what_is_frozen():
    model, variables = drawn(train_temperature=False)
    flat = list(flatten_dict(variables["params"]))
    layers = {path: model.layer_id(path) for path in flat}
    assert layers["tower", "temporal_table"] == layers["text", "position_table"] == 0
    assert layers["tower", "blocks_1", "norm1", "LayerNorm_0", "bias"] == 2
    assert layers["text", "blocks_0", "mlp", "fc1", "kernel"] == 1
    assert layers["proj", "kernel"] == layers["text", "norm", "LayerNorm_0", "scale"] == 3
    assert [path for path in flat if model.frozen(path)] == [("logit_scale",)]


def test_remat_changes_no_gradient():
    def gradient(remat):
        model, variables = drawn(drop_path=0.3)
        model = model.clone(remat=remat)

        def loss(variables):
            rngs = {"dropout": jax.random.key(3)}
            video, text, scale = model.apply(variables, VIDEO, IDS, train=True, rngs=rngs)
            return jnp.sum(scale * video * text)

        return jax.jit(jax.grad(loss))(variables)

    expected, found = gradient("none"), gradient("block")
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found, expected
    )
