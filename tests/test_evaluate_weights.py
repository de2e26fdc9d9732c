"""Released weights of retrieval evaluate in one command, with test annotations alone."""

import json

import jax
import numpy as np
import pytest

import fluxjax
from data_pipelines.text.bert import SPECIAL
from fluxjax import evaluate
from tests import tiny_run
from tests.models.test_umt import SIZES

WORDS = ("a", "ball", "moves", "left", "right", "up", "down")
TEXT = {
    "embedding": 8, "vocabulary": 40, "text_width": 16, "text_depth": 2, "text_heads": 2,
    "text_hidden": 24, "text_length": 40, "fusion_layer": 1,
}  # fmt: skip


@pytest.mark.slow
def test_released_weights_need_no_training_annotations(tmp_path, capsys):
    tiny_run.write_videos(tmp_path / "videos", 5)
    model = fluxjax.create_model("umt_ti8", None, **SIZES, **TEXT)
    variables = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 2, 8, 8, 3)))
    state = {f"module.{n}": x for n, x in fluxjax.to_torch(model, variables).items()}
    np.savez(tmp_path / "msrvtt.npz", **state)
    (tmp_path / "vocab.txt").write_text("\n".join((*SPECIAL, *WORDS)))
    entries = [
        {"video": f"{i}.mp4", "caption": f"A ball moves {way}."}
        for i, way in enumerate(("left", "right", "up", "down"))
    ]
    entries.append({"video": "gone.mp4", "caption": "a ball"})
    (tmp_path / "test.json").write_text(json.dumps(entries))
    options = [
        "--config", "umt_retrieval:msrvtt", "--family", "umt",
        "--checkpoint", str(tmp_path / "msrvtt.npz"), "--data", str(tmp_path / "test.json"),
        "--root", str(tmp_path / "videos"), "--grids", "2x16", "--batch-size", "8",
        "--max-bad-share", "0.5", "--output", str(tmp_path / "tables"),
        "--vocabulary", str(tmp_path / "vocab.txt"), "--set", "retrieve.merge=4,2",
        "--set", "model.num_heads=2", "--set", "model.text_heads=2", "--set", "eval.rerank=3",
    ]  # fmt: skip
    assert evaluate.main(options) == 0
    printed = capsys.readouterr().out
    assert "re-ranked retrieval among 5 videos and 5 captions" in printed
    assert "1 of them could not be read" in printed and "gone.mp4" in printed
    table = json.loads((tmp_path / "tables" / "reranked.json").read_text())
    assert [row["order"] for row in table["rows"]] == ["top 3", "top 3", "contrast", "contrast"]
    assert all(row["mean_rank"] >= 1 and row["unreadable"] == 1 for row in table["rows"])
    assert table["rows"][0]["grid"] == "2x16" and table["unreadable"][0].endswith("gone.mp4")


def test_what_it_refuses(tmp_path, capsys):
    for options, message in (
        (["--family=umt", "--config=umt_retrieval:kinetics"], "unknown variant 'kinetics'"),
        (["--family=umt", "--config=umt_mc", "--set=eval.rank=3"], "did you mean"),
        (["--family=umt", "--config=umt_mc", "--set=eval.rerank"], "must be KEY=VALUE"),
        (["--family=umt", "--config=umt_mc", "--set=eval.rerank=x"], "config.eval.rerank=x"),
    ):
        assert evaluate.main(["--checkpoint", str(tmp_path / "x.npz"), *options]) == 1
        assert message in capsys.readouterr().err
