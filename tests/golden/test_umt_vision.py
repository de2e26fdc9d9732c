"""UMT's video models: encoder that merges, student (u01, u02, u10), classifier, masks (u04)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluxjax.convert.load import load_torch, to_torch
from fluxjax.models.attention import attention_with_sharpness
from fluxjax.models.umt_encoder import UmtEncoder
from fluxjax.tokens.attention_masking import hidden_mask, race, visible_per_frame, visible_tokens
from fluxjax.tokens.flat_positions import flat_sincos
from fluxjax.tokens.masking import hidden_tokens
from fluxjax.tokens.merging import foreground
from tests.golden import fixture, traced

STUDENTS = pytest.mark.parametrize("case", ["u01", "u02", "u10"])


@functools.cache
def loaded(system, case):
    case = fixture(system, case)
    config = case.meta["config"]
    heads = {"encoder_num_heads", "num_heads", "heads"} & set(config)
    frames = {"num_frames", "all_frames", "frames"} & set(config)
    interval = config.get("clip_student_return_interval")
    student = {"taught_interval": interval} if interval and "clip_norm_type" in config else {}
    (heads,), (frames,) = heads, frames
    model, variables = load_torch(
        "umt", case.params, num_heads=config[heads], num_frames=config[frames], **student
    )
    state = to_torch(model, variables)
    assert set(state) == set(case.params)
    for name, value in case.params.items():
        np.testing.assert_array_equal(state[name], value, strict=True, err_msg=name)
    return model, variables


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@STUDENTS
def test_student(case):
    (model, variables), case = loaded("umt", case), fixture("umt", case)
    config, mask = case.meta["config"], case.inputs["mask"]
    visible = np.stack([np.flatnonzero(~row) for row in mask]).astype(np.int32)
    student, calls = traced(
        model, variables, case.video("video"), visible=visible, method="student"
    )
    case.check("patch_tokens", calls["encoder/patch_embed"][1])
    for i in range(model.depth):
        case.check(f"block{i}", calls[f"encoder/blocks_{i}"][1])
    case.check("encoder_layers", student.layers)
    decoded = np.asarray(student.decoded)
    case.check("decoder_out", unit(decoded) if config["clip_norm_type"] == "l2" else decoded)
    case.check("clip_pos_table", flat_sincos(model.width, mask.shape[1])[None])
    if "pos_table" in case.outputs:
        case.check("pos_table", flat_sincos(model.width, mask.shape[1])[None])


@pytest.mark.parametrize("name", ["plain", "merged", "alt"])
def test_encoder_that_merges(name):
    """Tokens, masses and pooled features of every block, where more than half are asked for too."""
    model, variables = loaded("vidtldr", "vidtldr_umt_vit")
    case = fixture("vidtldr", "vidtldr_umt_vit")
    schedule = {"plain": (), "merged": case.meta["vidTLDR_r"], "alt": case.meta["alt_r"]}[name]
    run = functools.partial(
        traced, model, variables, case.video("x"), merge=tuple(schedule), method="encode_video"
    )
    (tokens, pooled), calls = run()
    case.check(f"{name}/x_vis", tokens)
    case.check(f"{name}/x_pool", pooled[:, None])
    for i in range(model.depth):
        block = calls[f"encoder/blocks_{i}"][1]
        if f"{name}/size{i}" in case.outputs:
            case.check(f"{name}/size{i}", block.mass[..., None])
            block = block.values
        case.check(f"{name}/block{i}", block)
    assert [calls[f"encoder/blocks_{i}/mlp"][1].shape[1] for i in range(model.depth)] == (
        case.meta["tokens_after_block"][name]
    )


def test_images_frames_and_saliency():
    model, variables = loaded("vidtldr", "vidtldr_umt_vit")
    case = fixture("vidtldr", "vidtldr_umt_vit")
    tokens, pooled = jax.jit(model.apply)(variables, case.video("image"))
    case.check("image/x_vis", tokens)
    case.check("image/x_pool", pooled[:, None])
    (_, frames), calls = traced(model, variables, case.video("x"), per_frame=True)
    case.check("plain/x_pool_keep_temporal", frames)
    qkv = calls["encoder/blocks_0/attn/qkv"][1]
    attention = variables["params"]["encoder"]["blocks_0"]["attn"]
    q, k, v = jnp.split(qkv, 3, axis=-1)
    q, k, v = (
        x.reshape(*x.shape[:2], 3, -1)
        for x in (q + attention["q_bias"], k, v + attention["v_bias"])
    )
    salience = foreground(attention_with_sharpness(q, k, v)[1])
    np.testing.assert_allclose(salience[..., None], whole(case, "block0_saliency"), atol=1e-4)
    with pytest.raises(ValueError, match="per_frame=True needs all tokens"):
        model.apply(variables, case.video("x"), merge=(20,), per_frame=True)


def whole(case, name):
    assert name not in case.meta.get("thinned", {})
    return case.outputs[name]


def test_classifier_and_its_resampled_positions():
    (model, variables), case = loaded("umt", "u07"), fixture("umt", "u07")
    logits, features = jax.jit(lambda v, x: model.apply(v, x, return_features=True))(
        variables, case.video("video")
    )
    case.check("features", features)
    case.check("logits", logits)
    encoder = UmtEncoder(width=model.width, depth=1, grid=model.grid)
    table = lambda e, *grid: e.apply({"params": {}}, grid, method="positions")[None]  # noqa: E731
    case.check("pos_table", table(encoder, 4, 2, 2))
    encoder = encoder.clone(width=4)
    for i, grid in enumerate([(16, 14, 14), (8, 14, 14), (8, 12, 12)]):
        case.check(f"table{i}", table(encoder, *grid))


def test_classifier_that_merges():
    """The published classifier, which merges nothing, and with vid-TLDR's blocks."""
    model, variables = loaded("vidtldr", "vidtldr_single")
    case = fixture("vidtldr", "vidtldr_single")
    apply = jax.jit(
        lambda v, x, merge: model.apply(v, x, return_features=True, merge=merge),
        static_argnums=2,
    )
    for prefix, merge in (("", ()), ("merged_", tuple(case.meta["vidTLDR_r"]))):
        logits, features = apply(variables, case.video("x"), merge)
        case.check(f"{prefix}logits", logits)
        case.check(f"{prefix}features", features)


@pytest.mark.parametrize("number", range(4))
def test_masks_by_attention(number):
    case = fixture("umt", "u04")
    meta, name = case.meta["cases"][number], f"c{number}"
    frames, area = meta["T"], meta["N_per_frame"]
    attention, draws = (case.inputs[f"{name}/{x}"] for x in ("attn", "exponential_draws"))
    count = visible_per_frame(area, meta["mask_ratio"])
    assert count == case.outputs[f"{name}/visible_per_frame"]
    order = race(attention, draws, count)
    np.testing.assert_array_equal(order, case.outputs[f"{name}/order"])
    visible = visible_tokens(order, frames, area)
    np.testing.assert_array_equal(hidden_mask(visible, frames * area), case.outputs[f"{name}/mask"])
    assert np.all(np.diff(visible, axis=1) > 0)


@pytest.mark.parametrize("kind", ["tube", "random"])
def test_other_masks_hide_as_many(kind):
    case = fixture("umt", "u04")
    for meta in case.meta["cases"][4:]:
        mask = case.outputs[f"{kind}{meta['generator_case']}/mask"]
        assert hidden_tokens(tuple(meta["window"]), kind, meta["mask_ratio"]) == mask.sum()
