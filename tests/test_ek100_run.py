"""EPIC-KITCHENS-100 from end to end: long videos cut, damaged, trained on and evaluated."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

import fluxjax
from data_pipelines.prepare import __main__ as prepare
from data_pipelines.text.training import train_bpe
from tests.convert.test_avion import flash, released
from tests.data_pipelines import video_files as files

ROOT = pathlib.Path(__file__).parents[1]
RATE, LONG, CHUNK = 30, 75, 15  # frames a second; seconds
VIDEOS = ("P01_01", "P01_02")
# Starts, in seconds, of spans of 2 s in each video. Of the last two one begins before the chunk
# that is missing, and the first frame sampled of the other is the one that the short chunk lacks.
SPANS = np.array([*np.arange(0.5, 72, 3), 14.0, 59.74])
SENTENCES = ("open door", "close door", "cut onion", "wash pan")
TINY = [
    "--config.model.name=avion_ti8", "--config.model.width=16", "--config.model.depth=1",
    "--config.model.num_heads=2", "--config.model.grid=(2,2)", "--config.model.num_frames=4",
    "--config.model.dtype=float32", "--config.grids.frames=(4,)",
    "--config.grids.resolutions=(16,)", "--config.grids.min_tokens=1",
    "--config.eval.grids=('4x16',)", "--config.eval.batch_size=8", "--config.batch_size=8",
    "--config.total_steps=6", "--config.optim.warmup_steps=1", "--config.log_every=2",
    "--config.checkpoint.every_steps=6", "--config.data.workers=2",
    "--config.data.max_bad_share=0.5",
]  # fmt: skip
TEXT = [
    "--config.model.embedding=8", "--config.model.text_width=16", "--config.model.text_depth=1",
    "--config.model.text_heads=2", "--config.model.context_length=8",
    "--config.model.vocab_size=300", "--config.contrast.tokenizer=file",
]  # fmt: skip


def stamp(seconds):
    return f"00:{int(seconds // 60):02d}:{seconds % 60:05.2f}"


def write_annotations(folder):
    """The csv files of retrieval and of actions; sentences and graded relevancies."""
    heading = (
        "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,"
        "start_frame,stop_frame,narration,verb,verb_class,noun,noun_class"
    )
    rows = [
        f"{video}_{i},P01,{video},00:00:00.5,{stamp(start)},{stamp(start + 2)},1,2,"
        f"{SENTENCES[i % 4]},x,{i % 2},y,{i % 3}"
        for video in VIDEOS
        for i, start in enumerate(SPANS)
    ]
    said = [f"{VIDEOS[0]}_{i},{text}" for i, text in enumerate(SENTENCES)]
    same = np.array([[i % 4 == j for j in range(4)] for i in range(len(SPANS))], np.float32)
    relevancy = np.concatenate([0.2 + 0.8 * same] * 2)
    for split in ("train", "test"):
        name = f"EPIC_100_retrieval_{split}"
        (folder / f"{name}.csv").write_text("\n".join([heading, *rows]) + "\n")
        (folder / f"{name}_sentence.csv").write_text("narration_id,narration\n" + "\n".join(said))
        np.save(folder / f"caption_relevancy_{name}.npy", relevancy)
    for split in ("train", "validation"):
        (folder / f"EPIC_100_{split}.csv").write_text("\n".join([heading, *rows]) + "\n")
    train_bpe(SENTENCES, 300, folder / "tokenizer.json")


def damage(video):
    """Of five chunks the second is gone, the third cut off, the fourth one frame too short."""
    (video / "15.MP4").unlink()
    whole = (video / "30.MP4").read_bytes()
    (video / "30.MP4").write_bytes(whole[: len(whole) // 2])
    (video / "45.MP4").unlink()
    options = {"rate": RATE, "height": 48, "width": 64, "options": files.GOP12}
    files.write_video(video / "45.MP4", RATE * CHUNK - 1, **options)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Annotations, and videos of 75 s in chunks of 450 frames, one of them damaged."""
    folder = tmp_path_factory.mktemp("ek100")
    (folder / "long" / "P01").mkdir(parents=True)
    options = {"rate": RATE, "height": 48, "width": 64, "options": files.GOP12}
    for video in VIDEOS:
        files.write_video(folder / "long" / "P01" / f"{video}.MP4", RATE * LONG, **options)
    arguments = [str(folder / "long"), str(folder / "chunks"), f"--seconds={CHUNK}"]
    assert prepare.main([*arguments, "--short-side=48", "--workers=1"]) == 0
    damage(folder / "chunks" / "P01" / f"{VIDEOS[0]}.MP4")
    write_annotations(folder)
    return folder


def finished(module, *options):
    flags = "--xla_force_host_platform_device_count=1 --xla_backend_optimization_level=0"
    result = subprocess.run(
        [sys.executable, "-m", module, *options], cwd=ROOT, capture_output=True, text=True,
        timeout=600, env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
    return result


def lost_of(workdir, video):
    """File of each chunk that the run has met damaged -> why."""
    lines = (workdir / "quarantine.jsonl").read_text().splitlines()
    found = {line["video"]: line["reason"] for line in map(json.loads, lines)
             if line.get("damaged")}  # fmt: skip
    return {os.path.relpath(name, video): reason for name, reason in found.items()}


def check_losses(world, workdir):
    lost = lost_of(workdir, world / "chunks" / "P01" / f"{VIDEOS[0]}.MP4")
    assert lost.keys() == {"15.MP4", "30.MP4", "45.MP4"}
    assert lost["15.MP4"] == "missing" and lost["30.MP4"].startswith("truncated: ")
    assert lost["45.MP4"] == "holds 449 frames, 450 are needed"


@pytest.mark.slow
def test_retrieval_is_trained_and_evaluated_on_damaged_chunks(world, tmp_path):
    data = [f"--config.data.{name}={world}/EPIC_100_retrieval_{name}.csv"
            for name in ("train", "test")]  # fmt: skip
    finished(
        "fluxjax.main", "--config=configs/avion_ek100_mir.py", f"--workdir={tmp_path}", *TINY,
        *TEXT, *data, f"--config.data.root={world}/chunks", "--config.contrast.relevancy=true",
        f"--config.contrast.vocabulary={world}/tokenizer.json",
    )  # fmt: skip
    check_losses(world, tmp_path)
    table = json.loads((tmp_path / "ek100_mir.json").read_text())
    inside = int(np.sum((SPANS >= 15) & (SPANS + 2 <= 30)))  # of what is missing altogether
    (row,) = table["rows"]
    assert (row["videos"], row["unreadable"]) == (2 * len(SPANS), inside)
    assert 0 < row["map_mean"] < 1 and 0 < row["ndcg_mean"] <= 1


@pytest.mark.slow
def test_actions_are_learnt_from_there(world, tmp_path):
    data = [f"--config.data.{key}={world}/EPIC_100_{split}.csv"
            for key, split in (("train", "train"), ("test", "validation"))]  # fmt: skip
    finished(
        "fluxjax.main", "--config=configs/avion_ek100_cls.py", f"--workdir={tmp_path}", *TINY,
        *data, f"--config.data.root={world}/chunks", "--config.num_classes=6",
    )  # fmt: skip
    check_losses(world, tmp_path)
    rows = json.loads((tmp_path / "ek100_cls.json").read_text())["rows"]
    assert [row["views_averaged"] for row in rows] == ["logits", "probabilities"]
    assert all(row["budget"] is None and row["grid"] == "4x16" for row in rows)
    # What is never read is wrong for verbs, nouns and actions alike.
    inside = int(np.sum((SPANS >= 15) & (SPANS + 2 <= 30)))
    assert all(row["unreadable"] == inside for row in rows)
    assert all(row["verb_top1"] >= row["action_top1"] for row in rows)


@pytest.mark.slow
def test_released_weights_are_evaluated_in_one_command(world, tmp_path):
    sizes = {"depth": 1, "grid": (2, 2), "num_frames": 4, "embedding": 8, "text_depth": 1,
             "vocab_size": 300, "context_length": 8}  # fmt: skip
    model = fluxjax.create_model("avion_b16", None, **sizes)
    video = np.zeros((1, 4, 32, 32, 3), np.float32)
    variables = jax.jit(model.init)(jax.random.key(0), video)
    args = {"model": "CLIP_VITB16", "clip_length": 4, "freeze_temperature": True}
    state = flash(fluxjax.to_torch(model, variables))
    weights = released(tmp_path / "avion_best.pt", state, **args)
    result = finished(
        "fluxjax.evaluate", "--family=avion", f"--checkpoint={weights}",
        "--evaluators=ek100_mir", f"--data={world}/EPIC_100_retrieval_test.csv",
        f"--root={world}/chunks", f"--vocabulary={world}/tokenizer.json", "--max-bad-share=0.5",
        f"--output={tmp_path / 'tables'}",
    )  # fmt: skip
    assert "clips of 4x32 (frames x pixels), 1 x 1 views, frames uniform" in result.stderr
    (row,) = json.loads((tmp_path / "tables" / "ek100_mir.json").read_text())["rows"]
    assert row["sentences"] == 4 and 0 < row["map_mean"] < 1
