"""FluxViT piece by piece: modules (v01), token selection (v05), position tables (v06)."""

import dataclasses
import math
import re

import jax
import numpy as np
import pytest

from fluxjax.convert.fluxvit import decoder_rows
from fluxjax.convert.mapping import to_variables, vector
from fluxjax.convert.trunk import block_rows, depthwise, patch_rows, pooler_rows
from fluxjax.models.alignment import AlignmentDecoder
from fluxjax.models.blocks import Block, PatchEmbed, SelfAttention
from fluxjax.models.layers import AttentionPool, LayerScale, Mlp, RMSNorm, gelu
from fluxjax.tokens import positions
from fluxjax.tokens.selection import group_dynamic_scores, num_groups, rank_tokens, select
from fluxjax.tokens.tokens import Tokens, patchify
from tests.golden import dropmask, fixture

MODULES = fixture("fluxvit", "v01")
SELECTION = fixture("fluxvit", "v05")
POSITIONS = fixture("fluxvit", "v06")


def module_case(name):
    """A module of v01, the rows of its parameters, and which input it takes."""
    config = MODULES.meta["config"]
    width, heads, pooled = config["dim"], config["num_heads"], config["pool_out_dim"]
    hidden = int(width * config["mlp_ratio"])
    block = block_rows("block", "m", width, hidden, True)
    block += depthwise("block.attn.lpe", "m/attn/lpe", width)
    patch_norms = [
        vector("patch_embed.norm_before.weight", "m/norm_before/scale", config["patch"] ** 2 * 3),
        vector("patch_embed.norm.weight", "m/norm/scale", width),
    ]
    return {
        "rmsnorm": (RMSNorm(), [vector("rmsnorm.weight", "m/scale", width)], "x"),
        "attn": (SelfAttention(heads), part(block, "attn"), "x"),
        "mlp": (Mlp(hidden, gelu="exact"), part(block, "mlp"), "x"),
        "ls": (LayerScale(), [vector("ls.gamma", "m/gamma", width)], "x"),
        "block": (Block(heads, mlp_ratio=config["mlp_ratio"], gelu="exact"), block, "x"),
        "pool": (
            AttentionPool(pooled, config["pool_heads"]),
            pooler_rows("pool", "m", width, pooled),
            "x",
        ),
        "decoder": (AlignmentDecoder(), decoder_rows("decoder", "m", pooled), "feat"),
        "patch_embed": (
            PatchEmbed(width),
            patch_rows("patch_embed.proj", "m/proj", width, config["patch"]) + patch_norms,
            "pixels",
        ),
    }[name]


def part(rows, name):
    """Rows of a block's submodule, under the submodule's own names."""
    return [
        dataclasses.replace(
            row,
            name=row.name.removeprefix("block."),
            paths=tuple(path.replace(f"m/{name}/", "m/") for path in row.paths),
        )
        for row in rows
        if row.name.startswith(f"block.{name}.")
    ]


@pytest.mark.parametrize("scale", ["unit", "tiny"])
@pytest.mark.parametrize(
    "name", ["rmsnorm", "attn", "mlp", "ls", "block", "pool", "decoder", "patch_embed"]
)
def test_modules(name, scale):
    module, rows, source = module_case(name)
    state = {row.name: MODULES.params[row.name] for row in rows}
    variables = {"params": to_variables(state, rows, name)["params"]["m"]}
    if source == "pixels":
        inputs = (patchify(MODULES.video(f"pixels_{scale}"), MODULES.meta["config"]["patch"]),)
    else:
        inputs = (MODULES.inputs[f"{source}_{scale}"],)
    more = {"attn": (None,), "block": (None, False)}.get(name, ())  # no mask, not training
    output = jax.jit(lambda v, x: module.apply(v, x, *more))(variables, *inputs)
    key = f"{name}_{scale}"
    MODULES.check(key, output.reshape(MODULES.shape(key)))


@pytest.mark.parametrize("kind", ["exact", "tanh"])
def test_gelu(kind):
    for scale in ("unit", "tiny"):
        key = f"gelu_{kind}_{scale}"
        MODULES.check(key, gelu(MODULES.inputs[f"x_{scale}"], kind))


@pytest.mark.parametrize("padded", [False, True], ids=["dense", "packed"])
@pytest.mark.parametrize(
    "run", [*SELECTION.meta["runs"], *SELECTION.meta["ties"]], ids=lambda run: run["name"]
)
def test_token_selection(run, padded):
    name, grid = run["name"], (run["T"], run["L"], 1)
    features = SELECTION.inputs[f"{name}_tokens"]
    batch, tokens = features.shape[0], run["T"] * run["L"]
    features = features.reshape(batch, tokens, -1)
    if padded:
        features = np.pad(features, ((0, 0), (0, 3), (0, 0)), constant_values=np.nan)
    budget = run["kept_per_group"] * run["groups"]

    @jax.jit
    def kept(features):
        clip = Tokens.from_patches(features, np.tile(grid, (batch, 1)), grid)
        clip = clip.replace(padded=padded)
        return select(clip, rank_tokens(clip, group_dynamic_scores(clip)), budget)

    dropped = dropmask(kept(features), grid)
    if f"{name}_dropmask" in SELECTION.outputs:
        np.testing.assert_array_equal(dropped, SELECTION.outputs[f"{name}_dropmask"])
    else:  # ties go to the earlier token; the reference's unstable sort is no truth
        np.testing.assert_array_equal(dropped, SELECTION.outputs[f"{name}_dropmask_stable"])


def test_token_counts():
    """We keep the ideal number of tokens, where the reference loses some to rounding."""
    table = SELECTION.outputs["count_table"]
    np.testing.assert_array_equal(num_groups(table[:, 0]), table[:, 4])
    assert (table[:, 6] < table[:, 7]).any()  # the reference's loss is in the table
    for frames, _, tokens, budget, *_, ideal in table[:: len(table) // 24]:

        def slots(features, frames=int(frames), tokens=int(tokens), budget=int(budget)):
            grid = (frames, tokens // frames, 1)
            clip = Tokens.from_patches(features, np.array([grid]), grid).replace(padded=False)
            return select(clip, rank_tokens(clip, features[..., 0]), budget).values

        features = jax.ShapeDtypeStruct((1, int(tokens), 1), np.float32)
        assert jax.eval_shape(slots, features).shape == (1, ideal, 1)


def test_position_tables():
    """Resampled on static grids, and looked up in a program compiled for larger grids."""
    config = POSITIONS.meta["config"]
    side = config["img_size"] // config["patch_size"]
    codes = POSITIONS.params["pos_embed"][0]
    scale = POSITIONS.params["gpe_proj.depthwise_conv.weight"].reshape(-1)
    table = codes[1:] * scale + POSITIONS.params["gpe_proj.depthwise_conv.bias"]
    table = table.reshape(config["num_frames"], side, side, -1)
    grids = {}
    for tag in POSITIONS.outputs:
        # The reference does not interpolate between grids of equal size, listed as aliasing.
        if re.fullmatch(r"T\d+_L\d+", tag) and tag not in POSITIONS.meta["aliasing"]:
            frames, area = (int(number) for number in re.findall(r"\d+", tag))
            grids[tag] = (frames, math.isqrt(area), math.isqrt(area))
    resampled = jax.jit(lambda t: {k: positions.resample_table(t, g, g) for k, g in grids.items()})
    for tag, dense in resampled(table).items():
        rows = np.reshape(dense, (-1, codes.shape[-1]))
        POSITIONS.check(tag, np.concatenate([codes[:1], rows])[None])

    bound = tuple(max(sizes) + 3 for sizes in zip(*grids.values(), strict=True))
    look_up = jax.jit(positions.positions_of, static_argnums=3)
    slots = max(math.prod(grid) for grid in grids.values())
    for tag, grid in grids.items():
        where = np.zeros((1, slots, 3), np.int32)
        where[0, : math.prod(grid)] = np.stack(np.unravel_index(range(math.prod(grid)), grid), -1)
        rows = look_up(table, where, np.array([grid]), bound)[0, : math.prod(grid)]
        POSITIONS.check(tag, np.concatenate([codes[:1], rows])[None])
    assert look_up._cache_size() == 1  # one program for all grids


def test_sincos_tables():
    for tag in POSITIONS.outputs:
        if match := re.fullmatch(r"sincos_D(\d+)_g(\d+)_T(\d+)_cls(\d)", tag):
            channels, side, frames, cls = (int(number) for number in match.groups())
            table = positions.sincos_3d(channels, (frames, side, side)).reshape(-1, channels)
            POSITIONS.check(tag, np.pad(table, ((cls, 0), (0, 0))), "sincos")


def test_resampling_matrices():
    line, image = POSITIONS.inputs["linear1d_in"], POSITIONS.inputs["bicubic_in"]
    tags = [t for t in POSITIONS.outputs if re.fullmatch(r"(linear1d|bicubic)_to\d+", t)]

    @jax.jit
    def resampled():
        outputs = {}
        for tag in tags:
            kind, size = tag.split("_to")
            if kind == "linear1d":
                outputs[tag] = (
                    line @ positions.linear_matrix(int(size), int(size), line.shape[-1]).T
                )
            else:
                matrix = positions.cubic_matrix(int(size), int(size), image.shape[-1])
                outputs[tag] = matrix @ image @ matrix.T
        return outputs

    for tag, output in resampled().items():
        POSITIONS.check(tag, output)
