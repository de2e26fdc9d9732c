"""UMT and BERT weights: kinds of checkpoints, names, what shapes tell."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxjax
from fluxjax.convert import umt_rows
from fluxjax.convert.load import load_torch, to_torch
from fluxjax.models.bert import Bert
from fluxjax.models.umt_vision import UmtClassifier
from fluxjax.weight_files.errors import WeightsError
from tests.golden import fixture

QA = "vidtldr_qa"


def text_of(name):
    """The text encoder of a fixture, and what it gives."""
    case = fixture("vidtldr", name)
    heads = case.meta["bert"]["num_attention_heads"]
    model, variables = load_torch("umt", case.params, num_heads=3, text_heads=heads)
    ids = np.random.default_rng(0).integers(1, 50, (2, 6))
    return case, heads, ids, model, variables


def test_plain_bert_weights():
    """As Google's are stored: old names of norms, a pooler, another head, no tied copies."""
    case, heads, ids, model, variables = text_of("vidtldr_umt_pretrain")
    state = {}
    for name, value in case.params.items():
        if name.startswith("text_encoder.") and "crossattention" not in name:
            name = name.removeprefix("text_encoder.").replace("LayerNorm.weight", "LayerNorm.gamma")
            state[name.replace("LayerNorm.bias", "LayerNorm.beta")] = value
    del state["cls.predictions.decoder.weight"], state["cls.predictions.decoder.bias"]
    state |= {
        "bert.pooler.dense.weight": np.ones((32, 32), np.float32),
        "cls.seq_relationship.bias": np.ones(2, np.float32),
        "bert.embeddings.position_ids": np.arange(16)[None],
    }
    bert, plain = load_torch("umt", state, num_heads=heads)
    assert isinstance(bert, Bert) and bert.fusion_layer is None and bert.token_head
    run = jax.jit(lambda v, x: bert.apply(v, x, jnp.ones_like(x), range(2), method=first_layers))
    expected = model.apply(variables, ids, np.ones_like(ids), method="encode_text")
    np.testing.assert_allclose(run(plain, ids), expected, atol=1e-5)
    back = to_torch(bert, plain)
    word = "bert.embeddings.word_embeddings.weight"
    np.testing.assert_array_equal(back["cls.predictions.decoder.weight"], state[word])
    headless = {n: v for n, v in state.items() if n.startswith("bert.")}
    assert not load_torch("umt", headless, num_heads=heads)[0].token_head


def first_layers(bert, ids, mask, layers):
    return bert.run(bert.embed(ids), mask, None, layers)


def test_tied_tensors_must_be_equal():
    case = fixture("vidtldr", QA)
    name = "text_decoder.cls.predictions.decoder.weight"
    state = case.params | {name: case.params[name] + 1}
    with pytest.raises(WeightsError, match=r"decoder.weight' and .*word_embeddings.* differ"):
        load_torch("umt", state, num_heads=3, text_heads=3)


def test_a_wrong_file_lists_what_is_missing_and_unexpected():
    case = fixture("vidtldr", QA)
    state = dict(case.params)
    del state["vision_encoder.encoder.blocks.1.attn.q_bias"]
    state["vision_encoder.encoder.blocks.1.attn.k_bias"] = np.ones(24, np.float32)
    with pytest.raises(WeightsError, match=r"missing \(1\): .*q_bias' \(nearest: .*k_bias"):
        load_torch("umt", state, num_heads=3, text_heads=3)
    with pytest.raises(ValueError, match="pass text_heads="):
        load_torch("umt", case.params, num_heads=3)
    with pytest.raises(ValueError, match="no option 'head'"):
        load_torch("umt", case.params, num_heads=3, text_heads=3, head=1)


def test_a_pretrained_encoder_starts_a_classifier():
    case = fixture("umt", "u10")
    state = {name: v for name, v in case.params.items() if "pos_embed" not in name}
    model, variables = load_torch(
        "umt", state, num_heads=3, num_classes=5, head_key=jax.random.key(0)
    )
    assert isinstance(model, UmtClassifier) and model.grid == (8, 14, 14)
    logits = jax.jit(model.apply)(variables, case.video("video"))
    assert logits.shape == (2, 5) and np.abs(logits).max() < 0.1  # the head starts near 0
    start = to_torch(model, variables)
    name = "blocks.1.mlp.fc2.weight"
    np.testing.assert_array_equal(start[name], state[f"encoder.{name}"])
    np.testing.assert_array_equal(start["fc_norm.weight"], 1)
    with pytest.raises(ValueError, match="needs? .*UMT's encoder"):
        load_torch("umt", fixture("vidtldr", QA).params, num_heads=3, num_classes=4)


def test_the_grid_of_stored_positions():
    """Those of fine-tuned models tell it by their values, others need a keyword."""
    model = UmtClassifier(num_classes=4, width=16, depth=1, num_heads=2, grid=(8, 14, 14))
    state = {row.name: np.ones(row.shape, np.float32) for row in umt_rows.rows_of(model)}
    codes = model.apply({}, (6, 2, 2), method=lambda m, grid: m.encoder.positions(grid))
    state["pos_embed"] = np.asarray(codes)[None]
    again, variables = load_torch("umt", state, num_heads=2)
    assert again.grid == (6, 2, 2) and again.learned_positions
    np.testing.assert_array_equal(to_torch(again, variables)["pos_embed"], state["pos_embed"])
    state["pos_embed"] = state["pos_embed"] + 1
    with pytest.raises(ValueError, match=r"may belong to several grids: .* 6x32"):
        load_torch("umt", state, num_heads=2)
    assert load_torch("umt", state, num_heads=2, num_frames=6)[0].grid == (6, 2, 2)


@pytest.mark.parametrize(
    ("name", "millions"),
    # Without text: published for ViT-B, 85.6; the others from the shapes.
    [("umt_vision_b16", 85.6), ("umt_vision_l16", 303.0), ("bert_base", 108.9)],
)
def test_released_sizes_need_no_keywords(name, millions):
    model = fluxjax.create_model(name, None)
    rows = umt_rows.rows_of(model)
    assert sum(int(np.prod(row.shape)) for row in rows) / 1e6 == pytest.approx(millions, rel=2e-3)
    state = {row.name: np.broadcast_to(np.float32(1), row.shape) for row in rows}
    assert load_torch("umt", state)[0] == model


def test_a_released_retrieval_model_needs_no_keywords():
    model = fluxjax.create_model("umt_b16", None)
    state = {row.name: np.broadcast_to(np.float32(1), row.shape) for row in umt_rows.rows_of(model)}
    assert load_torch("umt", {"model": {f"module.{n}": v for n, v in state.items()}})[0] == model
