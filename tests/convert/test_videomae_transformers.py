"""VideoMAE of Hugging Face's transformers and ours on the same random weights, to 1e-4."""

import importlib.util
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluxjax.convert.load import load_torch, to_torch
from fluxjax.models.videomae_pretraining import token_indices
from fluxjax.tasks.reconstruct_targets import pixel_targets
from tests.convert.transformers_videomae import CASES, FILE, SIZES, STORED, build

TOLD = {
    "num_heads": SIZES["num_attention_heads"],
    "num_frames": SIZES["num_frames"],
    "image_size": tuple(SIZES["image_size"]),
}
TOLERANCE = 1e-4


def run(model, variables, arrays):
    """Our output for the arrays of a case."""
    video = np.moveaxis(arrays["pixel_values"].astype(np.float32), 2, -1)
    if "mask" in arrays:
        return model.apply(variables, video, arrays["mask"])
    return jax.jit(model.apply)(variables, video)


def stored(case):
    with np.load(FILE) as data:
        arrays = {n.removeprefix(f"{case}/"): data[n] for n in data.files if n.startswith(case)}
    return {n: x for n, x in arrays.items() if "param/" not in n}, {
        n.removeprefix("param/"): x for n, x in arrays.items() if "param/" in n
    }


def load(case, state):
    decoder = {"decoder_heads": SIZES["decoder_num_attention_heads"]}
    return load_torch("videomae", state, **TOLD, **(decoder if "pretraining" in case else {}))


@pytest.mark.parametrize("case", STORED)
def test_stored_outputs(case):
    arrays, state = stored(case)
    logits = run(*load(case, state), arrays)
    np.testing.assert_allclose(logits, arrays["logits"], atol=TOLERANCE)


def test_stored_loss():
    """transformers' pixels are of 0 to 1; targets are normalised, so only their 1e-6 differs."""
    arrays, state = stored("pretraining")
    model, variables = load("pretraining", state)
    video = np.moveaxis(arrays["pixel_values"].astype(np.float32), 2, -1)
    pixels = 255 * (video * np.float32(model.pixels.std) + np.float32(model.pixels.mean))
    hidden, _ = token_indices(jnp.asarray(arrays["mask"]), arrays["logits"].shape[1])
    cubes = jnp.take_along_axis(model.cubes(pixels).values, hidden[..., None], axis=1)
    error = run(model, variables, arrays) - pixel_targets(cubes)
    np.testing.assert_allclose(jnp.mean(error**2), arrays["loss"], rtol=TOLERANCE)


def test_older_names_and_flash_names_are_the_same_weights():
    """transformers before version 5 has q_bias and v_bias; AVION's flash names are one qkv."""
    arrays, state = stored("classifier")
    older = {
        re.sub(r"query\.bias$", "q_bias", re.sub(r"value\.bias$", "v_bias", name)): value
        for name, value in state.items()
    }
    assert set(older) != set(state)
    model, variables = load("classifier", older)
    flash = {}
    for name, value in to_torch(model, variables).items():
        if name.endswith("q_bias"):
            block = name.removesuffix("q_bias")
            v_bias = older[block.replace("blocks", "videomae.encoder.layer").replace(
                "attn.", "attention.attention.v_bias")]  # fmt: skip
            keys = np.ones_like(value)  # of no effect
            flash[f"{block}Wqkv.bias"] = np.concatenate([value, keys, v_bias])
        elif not name.endswith("v_bias"):
            name = name.replace("attn.qkv", "attn.Wqkv").replace("attn.proj", "attn.out_proj")
            flash[f"module.{name}"] = value
    same, renamed = load_torch("videomae", {"state_dict": flash}, **TOLD)
    assert same.clone(epsilon=model.epsilon, head_epsilon=model.head_epsilon) == model
    jax.tree.map(np.testing.assert_array_equal, variables, renamed)
    np.testing.assert_allclose(run(same, renamed, arrays), arrays["logits"], atol=TOLERANCE)


@pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None or importlib.util.find_spec("torch") is None,
    reason="needs the extra 'torch'",
)
@pytest.mark.parametrize("case", CASES)
def test_files_of_transformers(case, tmp_path):
    """Written by save_pretrained, read through safetensors; config.json tells the rest."""
    model, arrays = build(case, seed=1)
    model.save_pretrained(tmp_path)
    ours, variables = load_torch("videomae", tmp_path)
    np.testing.assert_allclose(run(ours, variables, arrays), arrays["logits"], atol=TOLERANCE)
