"""A frame flexible network as a ladder of frame numbers: each rung its branch, adapters folded."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxjax
from fluxjax.export import __main__ as command
from fluxjax.export.artefacts import flat_weights
from fluxjax.serving.checkpoint import open_checkpoint
from fluxjax.serving.settings import Setting, make_setting, token_groups
from fluxjax.tokens.grids import Grid
from fluxjax.weight_files.readers import read_weights

SIZES = {"layers": (1, 1), "widths": (8, 16), "stem": 8}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """(model, variables, folder) of a network of 2 and 4 frames, nowhere the same numbers."""
    model = fluxjax.create_model("tsm_r18_ffn", 5, frames=(2, 4), **SIZES)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2, 32, 32, 3)))
    rng = np.random.default_rng(0)

    def drawn(path, x):
        noise = 0.2 * rng.standard_normal(x.shape, np.float32)
        return 1 + np.abs(noise) if path[-1].key in ("scale", "var") else noise

    variables = jax.tree.map_with_path(drawn, shapes)
    folder = tmp_path_factory.mktemp("frames") / "model"
    fluxjax.save(folder, model, variables, usage=fluxjax.Usage("sparse", ("4x32",)))
    return model, variables, folder


def test_the_ladder_climbs_frame_numbers(stored, tmp_path, capsys):
    model, variables, folder = stored
    out = tmp_path / "out"
    options = ["--checkpoint", str(folder), "--target", str(out), "--platforms", "cpu"]
    assert command.main(options) == 0
    assert "2x32, all of its pixels: " in capsys.readouterr().out
    ladder = json.loads((out / "ladder.json").read_text())
    assert [(r["budget"], r["grid"], r["method"]) for r in ladder["rungs"]] == [
        (4, "4x32", "frames"), (2, "2x32", "frames"),
    ]  # fmt: skip
    assert ladder["rungs"][0]["gmacs"] == pytest.approx(2 * ladder["rungs"][1]["gmacs"], rel=0.05)
    weights = read_weights(out / ladder["weights"])
    assert "batch_stats:bn1_1/var" in weights
    for rung in ladder["rungs"]:
        frames = rung["frames"]
        clips = np.random.default_rng(frames).integers(0, 256, (3, frames, 32, 32, 3), np.uint8)
        program = jax.export.deserialize((out / rung["program"]).read_bytes())
        logits = program.call(dict(weights), clips)
        expected = jax.jit(lambda x, n=frames: model.apply(variables, x, n))(clips)
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
        other = jax.jit(lambda x, n=6 - frames: model.apply(variables, x, n))(clips)
        assert np.abs(other - expected).max() > 1e-2


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--grid", "3x48"], ["3x48"]),
        (["--grid", "4x48", "--budgets", "4,1"], ["4x48", "1x48"]),
        (["--budgets", "3"], ["3x32"]),
        ([], ["2x32", "4x32"]),
    ],
)
def test_rungs(stored, options, expected):
    options = command.parser().parse_args(
        ["--checkpoint", str(stored[2]), "--target", "out", *options]
    )
    rungs = command.rungs_of(options, open_checkpoint(options.checkpoint))
    assert [str(rung.setting.grid) for rung in rungs] == expected


def test_budgets_are_frames(stored):
    model, variables, _ = stored
    assert make_setting(model, Grid(4, 30)) == Setting(Grid(4, 30), 4, "frames", 0)
    assert make_setting(model, Grid(4, 30), 3) == Setting(Grid(3, 30), 3, "frames", 0)
    with pytest.raises(ValueError, match="budget 5 must be 1 to 4, the frames of 4x30"):
        make_setting(model, Grid(4, 30), 5)
    with pytest.raises(ValueError, match=r"unknown method 'merge'; choose one of \('frames',\)"):
        make_setting(model, Grid(4, 30), method="merge")
    with pytest.raises(ValueError, match="a Tsm drops no tokens"):
        token_groups(
            model, variables, jnp.zeros((1, 4, 30, 30, 3)), make_setting(model, Grid(4, 30))
        )


def test_weights_of_all_collections_have_names_of_their_own(stored):
    _, variables, _ = stored
    names = set(flat_weights(variables))
    assert {"head/bias", "batch_stats:bn1_0/mean"} <= names
    assert len(names) == len(jax.tree.leaves(variables))
