"""The command `python -m fluxjax.embed --tokens`: what is read back is the model's."""

import json

import jax
import numpy as np
import pytest

import fluxjax
from data_pipelines.clips.views import eval_views
from data_pipelines.sources.records import Record
from fluxjax import embed
from fluxjax.serving.token_files import VideoTokens, read_tokens, write_tokens
from fluxjax.tokens.grids import Grid
from tests import tiny_run
from tests.tasks import test_contrast, test_contrast_budgets
from tests.test_embed import write_run


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Three videos, and a file that is none."""
    folder = tmp_path_factory.mktemp("tokens") / "videos"
    tiny_run.write_videos(folder, 3)
    (folder / "broken.mp4").write_bytes(b"no video")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A FluxViT classifier with random weights."""
    return tiny_run.write_run(tmp_path_factory.mktemp("tokens") / "run")


def read_all(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    return manifest, [read_tokens(folder / entry["file"]) for entry in manifest["videos"]]


@pytest.mark.parametrize(("kind", "grid"), [("npz", "4x28"), ("safetensors", "2x28")])
def test_tokens_read_back_are_the_models(run, videos, tmp_path, capsys, kind, grid):
    """Selected ones of a larger grid, and all 8 of a grid that fills the slots in part only."""
    options = ["--checkpoint", str(run), "--output", str(tmp_path / "out"), "--tokens", kind,
               "--grid", grid, "--budget", "8", "--clips", "2", "--crops", "1"]  # fmt: skip
    assert embed.main([*options, str(videos)]) == 1
    assert "tokens of 3 videos" in capsys.readouterr().out
    manifest, found = read_all(tmp_path / "out")
    assert manifest["grid"] == grid and manifest["budget"] == 8 and manifest["clips"] == 2
    (failed,) = manifest["failed"]
    assert failed["video"].endswith("broken.mp4")
    files = [entry["file"] for entry in manifest["videos"]]
    assert files == [f"0000000{i}.{kind}" for i in range(3)]

    model, variables = fluxjax.load(run / "model")
    frames, side = (int(x) for x in grid.split("x"))
    apply = jax.jit(lambda v, x: model.apply(v, x, 8, return_tokens=True)[-1])
    for entry, tokens in zip(manifest["videos"], found, strict=True):
        record = Record(entry["video"], -1, entry["video"])
        views = eval_views(record, Grid(frames, side), "sparse", 2, 1)
        for view, clip in enumerate(views):
            expected = jax.device_get(apply(variables, clip[None]))
            count = int(tokens.valid[view].sum())
            assert count == expected.values.shape[1] == 8
            here = tokens.tokens[view, :count]
            assert here.dtype == np.float16
            np.testing.assert_allclose(here, expected.values[0], rtol=2e-3, atol=2e-3)
            np.testing.assert_array_equal(tokens.position[view, :count], expected.position[0])
            np.testing.assert_array_equal(tokens.grid[view], (frames, side // 14, side // 14))
            assert not tokens.tokens[view, count:].any()
            assert np.all(tokens.position[view, count:] == -1)


def test_a_dual_encoder_writes_its_tokens_too(videos, tmp_path):
    folder = tmp_path / "clip"
    folder.mkdir()
    write_run(folder, test_contrast_budgets.config())
    options = ["--checkpoint", str(folder), "--output", str(tmp_path / "out"), "--tokens", "npz"]
    assert embed.main([*options, "--grid", "4x28", "--budget", "4", str(videos / "0.mp4")]) == 0
    manifest, (tokens,) = read_all(tmp_path / "out")
    assert manifest["model"] == "FluxClip" and tokens.tokens.shape == (1, 4, 16)
    assert len({tuple(x) for x in tokens.position[0].tolist()}) == 4
    assert np.all(tokens.position[0] < tokens.grid[0])


def test_what_cannot_be_written_is_refused(run, videos, tmp_path, capsys):
    options = ["--output", str(tmp_path / "out"), "--tokens", "npz", str(videos / "0.mp4")]
    dense = tmp_path / "dense"
    dense.mkdir()
    write_run(dense, test_contrast.config())
    assert embed.main(["--checkpoint", str(dense), *options]) == 1
    assert "a Avion of task 'contrast', which does not return its tokens" in capsys.readouterr().err
    assert embed.main(["--checkpoint", str(run), "--text", "a four grows", *options]) == 1
    assert "--text has no meaning with --tokens" in capsys.readouterr().err
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old.txt").write_text("")
    assert embed.main(["--checkpoint", str(run), *options]) == 1
    assert "is there already; name a folder of its own" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_a_file_holds_what_was_written(tmp_path, kind):
    rng = np.random.default_rng(0)
    valid = np.arange(5)[None] < np.array([[5], [3]])
    position = rng.integers(0, 4, (2, 5, 3))
    values = rng.standard_normal((2, 5, 8)).astype(np.float32)
    tokens = VideoTokens.of(values, position, np.full((2, 3), 4), valid)
    write_tokens(tmp_path / f"a.{kind}", tokens)
    again = read_tokens(tmp_path / f"a.{kind}")
    for name in ("tokens", "position", "grid", "valid"):
        np.testing.assert_array_equal(getattr(again, name), getattr(tokens, name))
    np.testing.assert_array_equal(again.tokens, values.astype(np.float16))
    assert np.all(again.position[1, 3:] == -1) and again.valid.dtype == bool
    with pytest.raises(ValueError, match="a.pt must end in .npz or .safetensors"):
        write_tokens(tmp_path / "a.pt", tokens)
    with pytest.raises(ValueError, match="tokens of up to 100000 do not fit float16"):
        VideoTokens.of(values * 0 + 1e5, position, np.full((2, 3), 4), valid)
