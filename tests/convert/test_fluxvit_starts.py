"""FluxViT weights with other heads and grids, and a FluxViT that starts from an InternVideo2."""

import jax
import numpy as np
import pytest

from fluxjax.convert.initialize import init_fluxvit_from_internvideo2
from fluxjax.convert.load import load_torch, to_torch
from fluxjax.weight_files.readers import WeightsError
from tests.convert.fluxvit_states import CASE, TEACHER, assert_same, load, random_state


def test_heads_for_other_label_sets():
    model, _ = load(CASE.params)
    state = random_state(model.clone(num_classes=710))
    found, variables = load(state, num_classes=400)
    assert found.num_classes == 400
    cut = to_torch(found, variables)
    mapped = to_torch(*load(state, label_map=[709, 3]))
    for j in range(3):
        for kind in ("weight", "bias"):
            name = f"head.{j}.{kind}"
            np.testing.assert_array_equal(cut[name], state[name][:400])
            np.testing.assert_array_equal(mapped[name], state[name][[709, 3]])


def test_new_heads():
    """Pre-trained checkpoints have no heads; others may have those of another label set."""
    bare = {n: v for n, v in CASE.params.items() if not n.startswith(("head.", "fc_norm."))}
    with pytest.raises(ValueError, match="has no classification heads"):
        load(bare)
    for state in (bare, CASE.params):
        model, variables = load(state, num_classes=7, head_key=jax.random.key(1))
        assert model.num_classes == 7
        found = to_torch(model, variables)
        assert found["head.0.weight"].shape == (7, 32) and not found["head.2.bias"].any()
        assert not np.array_equal(found["head.0.weight"], found["head.1.weight"])
        assert 0.01 < np.std(found["head.0.weight"]) < 0.03
        norm = np.ones(32) if state is bare else CASE.params["fc_norm.weight"]
        np.testing.assert_array_equal(found["fc_norm.weight"], norm)
        np.testing.assert_array_equal(found["cls_token"], CASE.params["cls_token"])


def test_grid_of_the_table_may_be_changed():
    model, variables = load(CASE.params, grid=(4, 5, 3))
    assert model.grid == variables["params"]["position_table"].shape[:3] == (4, 5, 3)


def test_start_from_internvideo2():
    """What both have is loaded, what FluxViT alone has keeps its initial values."""
    model, variables = load(random_state(load(CASE.params)[0], seed=3))
    started, report = init_fluxvit_from_internvideo2(variables, {"module": TEACHER.params})
    before, after = to_torch(model, variables), to_torch(model, started)
    np.testing.assert_array_equal(
        after["blocks.1.mlp.fc1.weight"], TEACHER.params["blocks.1.mlp.fc1.weight"]
    )
    for j in range(3):
        for theirs in ("clip_projector.norm1_k.bias", "head.weight"):
            name, _, rest = theirs.partition(".")
            np.testing.assert_array_equal(after[f"{name}.{j}.{rest}"], TEACHER.params[theirs])
    assert_same({"pos_embed": after["pos_embed"]}, {"pos_embed": TEACHER.params["pos_embed"]})
    own = ("patch_embed.norm", "lpe", "gpe_proj", "final_clip_decoder_for_projs")
    for name in before:
        kept = any(part in name for part in own)
        assert np.array_equal(before[name], after[name]) == kept, name
    assert report.loaded["poolers_2/q/kernel"] == "clip_projector.cross_attn.q.weight"
    assert "decoders_0/head/kernel" in report.kept and "gpe/scale" in report.kept
    assert not report.unused
    assert not set(report.kept) & set(report.loaded)


def test_start_on_another_grid_and_label_set():
    model = load(CASE.params)[0].clone(grid=(12, 5, 5), num_classes=3)
    _, variables = load(random_state(model), image_size=70, num_frames=12)
    extra = TEACHER.params | {"clip_pos_embed": np.zeros((1, 3, 48), np.float32)}
    started, report = init_fluxvit_from_internvideo2(variables, extra)
    expected = load_torch("internvideo2", TEACHER.params, **TEACHER.loading, grid=(12, 5, 5))[1]
    np.testing.assert_array_equal(
        started["params"]["position_table"], expected["params"]["position_table"]
    )
    assert set(report.unused) == {"clip_pos_embed", "head.weight", "head.bias"}
    assert "heads_0/kernel" in report.kept
    with pytest.raises(WeightsError, match="2 blocks, expected 1"):
        small = {k: v for k, v in variables["params"].items() if k != "blocks_1"}
        init_fluxvit_from_internvideo2({"params": small}, extra)
    with pytest.raises(WeightsError, match="not 7 frames of a square grid"):
        init_fluxvit_from_internvideo2(variables, extra, num_frames=7)
