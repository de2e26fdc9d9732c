"""CLIP's image tower against the official EVL code: features of every block, and weight files."""

import pathlib

import jax
import numpy as np
import pytest

import fluxjax
from fluxjax.convert.clip import rows_of
from fluxjax.models import create_model
from tests.golden import fixture, traced

CASE = fixture("evl", "evl_clip_vit")
FULL = fixture("evl", "evl_full_forward")
ARCHIVE = pathlib.Path(__file__).parent / "evl" / "evl_clip_tiny_jit.pt"


def openai_names(state):
    """EVL's names of a tower (split q, k, v; linear patch embedding) -> OpenAI's."""
    state, found = dict(state), {}
    found["class_embedding"] = state.pop("cls_token")
    found["positional_embedding"] = state.pop("pos_embed")
    weight = state.pop("patch_embed.proj.weight")
    found["conv1.weight"] = weight.reshape(weight.shape[0], 3, 8, 8)
    found["conv1.bias"] = state.pop("patch_embed.proj.bias")
    for name in [name for name in state if "attn.q_proj" in name]:
        parts = [state.pop(name.replace("q_proj", f"{part}_proj")) for part in "qkv"]
        short = name.replace("q_proj.", "in_proj_").replace("blocks.", "transformer.resblocks.")
        found[short] = np.concatenate(parts)
    for name, value in state.items():
        name = name.replace("blocks.", "transformer.resblocks.").replace("norm", "ln_")
        found[name.replace("fc1", "c_fc").replace("fc2", "c_proj")] = value
    width = found["class_embedding"].size
    found["ln_post.weight"], found["ln_post.bias"] = np.ones(width), np.zeros(width)
    found["proj"] = np.eye(width)[:, :8]
    return {name: np.float32(value) for name, value in found.items()}


def images(array):
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1))


def test_features_of_every_block():
    model, variables = fluxjax.load_torch(
        "clip", openai_names(CASE.params), num_heads=4, image_size=(24, 32)
    )
    assert model.grid == (3, 4) and model.patch_bias and model.ln_pre
    features, calls = traced(model, variables, images(CASE.inputs["x"]), method="layers")
    CASE.check("embed_after_ln_pre", calls["tower/norm_pre"][1])
    for i, layer in enumerate(features.layers):
        CASE.check(f"layer{i}/out", layer.out[:, 0])
        CASE.check(f"layer{i}/q", layer.q[:, 0])
        CASE.check(f"layer{i}/k", layer.k[:, 0])
        attention = calls[f"tower/blocks_{i}/attn"][1][0]
        CASE.check(f"layer{i}/attn_out", attention)
        v = calls[f"tower/blocks_{i}/attn/v"][1]
        CASE.check(f"layer{i}/v", v.reshape(layer.q[:, 0].shape))
    table = variables["params"]["tower"]["position_table"].reshape(-1, 32)
    embedded = calls["tower/patch_embed"][1]
    CASE.check("patch_embed", embedded)
    assert np.abs(table).max() > 0


@pytest.mark.slow
def test_a_clip_is_its_frames():
    model, variables = fluxjax.load_torch(
        "clip", openai_names(CASE.params), num_heads=4, image_size=(24, 32)
    )
    frames = images(CASE.inputs["x"])
    alone = jax.jit(model.apply)(variables, frames)
    together = jax.jit(model.apply)(variables, frames[None])
    np.testing.assert_allclose(together[0], alone.mean(axis=0), rtol=1e-4, atol=1e-5)


def test_torchscript_archive_of_openai():
    model, variables = fluxjax.load_torch("clip", ARCHIVE, num_heads=4)
    assert (model.width, model.depth, model.patch, model.grid) == (32, 4, 8, (3, 3))
    assert model.embedding == 8 and not model.patch_bias and model.gelu == "quick"
    state = fluxjax.to_torch(model, variables)
    expected = {f"visual.{n.removeprefix('clip_visual/')}": v
                for n, v in FULL.inputs.items() if n.startswith("clip_visual/")}  # fmt: skip
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        # The archive keeps the patch embedding in half precision, as OpenAI's do.
        tolerance = 1e-3 if name.endswith("conv1.weight") else 0
        np.testing.assert_allclose(state[name], value, rtol=tolerance, atol=tolerance)


def hugging_face(state):
    """OpenAI's names -> transformers' CLIPModel."""
    found = {"visual_projection.weight": state["visual.proj"].T, "logit_scale": np.float32(1)}
    found["text_model.final_layer_norm.bias"] = np.zeros(3, np.float32)
    found["vision_model.embeddings.position_ids"] = np.arange(10)
    names = {"class_embedding": "embeddings.class_embedding",
             "positional_embedding": "embeddings.position_embedding.weight",
             "conv1.weight": "embeddings.patch_embedding.weight"}  # fmt: skip
    for name, value in state.items():
        name = name.removeprefix("visual.")
        if name == "proj":
            continue
        if "in_proj" in name:
            for part, piece in zip("qkv", np.split(value, 3), strict=True):
                short = name.replace("transformer.resblocks", "encoder.layers")
                short = short.replace("attn.in_proj_", f"self_attn.{part}_proj.")
                found[f"vision_model.{short}"] = piece
            continue
        short = names.get(name, name.replace("transformer.resblocks", "encoder.layers"))
        for ours, theirs in (("ln_pre", "pre_layrnorm"), ("ln_post", "post_layernorm"),
                             ("ln_", "layer_norm"), ("attn.out", "self_attn.out"),
                             ("c_fc", "fc1"), ("c_proj", "fc2")):  # fmt: skip
            short = short.replace(ours, theirs)
        found[f"vision_model.{short}"] = value
    return found


def test_hugging_face_and_open_clip_names(tmp_path):
    model, variables = fluxjax.load_torch("clip", ARCHIVE, num_heads=4)
    state = fluxjax.to_torch(model, variables)
    open_clip = state | {"positional_embedding": np.zeros((4, 8)), "logit_scale": np.ones(()),
                         "transformer.resblocks.0.ln_1.bias": np.zeros(8)}  # fmt: skip
    from fluxjax.weight_files.readers import write_safetensors

    for number, other in enumerate((hugging_face(state), open_clip)):
        path = tmp_path / f"{number}.safetensors"
        write_safetensors(path, {name: np.asarray(value) for name, value in other.items()})
        again, found = fluxjax.load_torch("clip", path, num_heads=4)
        assert again == model
        jax.tree.map(np.testing.assert_array_equal, found, variables)


@pytest.mark.slow
def test_another_image_size():
    model, variables = fluxjax.load_torch("clip", ARCHIVE, num_heads=4)
    image = np.random.default_rng(0).integers(0, 256, (1, 40, 32, 3), np.uint8)
    at_run_time = jax.jit(model.apply)(variables, image)
    larger, resampled = fluxjax.load_torch("clip", ARCHIVE, num_heads=4, grid=(5, 4))
    assert resampled["params"]["tower"]["position_table"].shape == (1, 5, 4, 32)
    np.testing.assert_allclose(jax.jit(larger.apply)(resampled, image), at_run_time, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"visual.ln_post.bias": None}, r"missing \(1\): 'ln_post.bias'"),
        ({"head.weight": np.zeros(3)}, r"neither encoder of a CLIP: \['head.weight'\]"),
        ({"visual.extra": np.zeros(3)}, r"unexpected \(1\): 'extra'"),
    ],
)
def test_wrong_names_are_listed(change, message):
    state = fluxjax.to_torch(*fluxjax.load_torch("clip", ARCHIVE, num_heads=4)) | change
    state = {name: value for name, value in state.items() if value is not None}
    with pytest.raises(fluxjax.WeightsError, match=message):
        fluxjax.load_torch("clip", state, num_heads=4)


def test_heads_and_sizes_that_shapes_do_not_tell():
    with pytest.raises(ValueError, match="pass num_heads="):
        fluxjax.load_torch("clip", ARCHIVE)
    with pytest.raises(ValueError, match="pass image_size= of the checkpoint"):
        fluxjax.load_torch("clip", ARCHIVE, num_heads=4, image_size=32)


@pytest.mark.parametrize(
    ("name", "tensors", "parameters"),
    [("clip_b32", 152, 87_849_216), ("clip_b16", 152, 86_192_640), ("clip_l14", 296, 303_966_208)],
)
def test_official_tensor_and_parameter_counts(name, tensors, parameters):
    rows = rows_of(create_model(name, None))
    assert len(rows) == tensors
    assert sum(int(np.prod(row.shape)) for row in rows) == parameters


def test_padded_tokens_are_refused():
    model = create_model("clip_ti8", 3)
    tokens = fluxjax.pack([np.zeros((2, 16, 16, 3), np.uint8)], max_tokens=10, patch=8)
    with pytest.raises(ValueError, match="needs all clips on one grid"):
        jax.eval_shape(lambda: model.init(jax.random.key(0), tokens))
