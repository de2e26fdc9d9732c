"""The commands `python -m fluxjax.embed` and `python -m fluxjax.search`, in this process."""

import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import fluxjax
from data_pipelines.clips.views import eval_views
from data_pipelines.sources.records import Record
from fluxjax import embed, search
from fluxjax.serving import embedder as embedder_lib
from fluxjax.serving.contact_sheet import Row, contact_sheet
from fluxjax.tasks import create_task
from fluxjax.tokens.grids import Grid
from tests import tiny_run
from tests.data_pipelines import video_files
from tests.tasks import test_contrast, test_retrieve

TEXTS = ["the digit seven moves to the left", "a four grows"]


def write_run(folder, config):
    """A run's folder with random weights; whoever reads it again gets the same."""
    task = create_task(config)
    variables = jax.jit(task.init)(jax.random.key(0))
    fluxjax.save(folder / "model", task.model, variables)
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("embed") / "run", test_contrast.config())


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("embed") / "videos"
    tiny_run.write_videos(folder, 5)
    return folder


@pytest.fixture(scope="module")
def index(run, videos, tmp_path_factory):
    """An index of five videos and two texts."""
    folder = tmp_path_factory.mktemp("embed") / "index"
    texts = [option for text in TEXTS for option in ("--text", text)]
    options = ["--checkpoint", str(run), "--output", str(folder), "--batch-size", "2"]
    assert embed.main([*options, *texts, str(videos)]) == 0
    return folder


def ids_of(texts):
    tokenizer = fluxjax.tokenizer("file", vocabulary="demo:captions")
    return tokenizer(texts, context=12)


def test_vectors_are_the_models(run, videos, index):
    model, variables = fluxjax.load(run / "model")
    paths = [str(videos / f"{number}.mp4") for number in range(5)]
    clips = [eval_views(Record(path, -1, ""), Grid(2, 16))[0] for path in paths]
    ids = np.resize(ids_of(TEXTS), (5, 12))
    video, text, _ = jax.jit(model.apply)(variables, jnp.asarray(clips), ids)
    np.testing.assert_allclose(np.load(index / "videos.npy"), video, atol=1e-5)
    np.testing.assert_allclose(np.load(index / "texts.npy"), text[:2], atol=1e-5)
    manifest = json.loads((index / "manifest.json").read_text())
    assert [entry["video"] for entry in manifest["videos"]] == paths
    assert manifest["texts"] == TEXTS and manifest["failed"] == []
    assert manifest["checkpoint"] == str(run / "model") and manifest["model"] == "Avion"
    assert (manifest["grid"], manifest["budget"], manifest["sampling"]) == ("2x16", None, "sparse")


def test_views_are_averaged_as_evaluation_does(run, videos):
    embedder = embedder_lib.open_embedder(run, clips=2)
    record = Record(str(videos / "4.mp4"), -1, "")
    (row,) = embedder.videos([record], batch_size=1)
    model, variables = fluxjax.load(run / "model")
    views = jnp.stack(eval_views(record, Grid(2, 16), clips=2))
    values = np.asarray(model.apply(variables, views, method="encode_video"))
    values = values / np.linalg.norm(values, axis=1, keepdims=True)
    mean = values.mean(axis=0)
    np.testing.assert_allclose(row, mean / np.linalg.norm(mean), atol=1e-5)


def test_texts_of_several_batches_are_all_embedded_in_their_order(run, index, monkeypatch):
    monkeypatch.setattr(embedder_lib, "TEXTS", 2)
    rows = embedder_lib.open_embedder(run).texts([*TEXTS, *TEXTS[::-1], TEXTS[1]])
    whole = np.load(index / "texts.npy")
    np.testing.assert_allclose(rows, whole[[0, 1, 1, 0, 1]], atol=1e-5)


def test_what_cannot_be_read_is_listed_and_the_others_are_done(run, videos, tmp_path, capsys):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"this is no video" * 100)
    given = [str(videos / "0.mp4"), str(bad), str(tmp_path / "none.mp4"), str(videos / "1.mp4")]
    out = tmp_path / "out"
    assert embed.main(["--checkpoint", str(run), "--output", str(out), *given]) == 1
    manifest = json.loads((out / "manifest.json").read_text())
    assert [entry["video"] for entry in manifest["videos"]] == [given[0], given[3]]
    assert [entry["video"] for entry in manifest["failed"]] == given[1:3]
    assert all(entry["error"] for entry in manifest["failed"])
    rows = np.load(out / "videos.npy")
    assert rows.shape == (2, 8) and rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert f"error: {bad}: " in capsys.readouterr().err


def test_a_search_gives_the_videos_in_the_order_of_their_cosines(index, videos, capsys):
    options = ["--index", str(index), "--top", "3", "--json"]
    assert search.main([*options, *TEXTS]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["query"] for line in lines] == TEXTS
    scores = np.load(index / "texts.npy") @ np.load(index / "videos.npy").T
    for line, row in zip(lines, scores, strict=True):
        order = np.argsort(-row)[:3]
        assert [hit["video"] for hit in line["hits"]] == [str(videos / f"{i}.mp4") for i in order]
        np.testing.assert_allclose([hit["score"] for hit in line["hits"]], row[order], atol=1e-5)


def test_a_sheet_shows_the_frames_of_the_videos_found(index, tmp_path, capsys):
    sheet = tmp_path / "sheet.png"
    options = ["--index", str(index), "--top", "2", "--sheet", str(sheet)]
    assert search.main([*options, "--json", TEXTS[0]]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    picture = np.asarray(Image.open(sheet))
    top = 4 + 18 + 18  # the query's line and that of the first video
    for number, hit in enumerate(json.loads(line)["hits"]):
        frames = eval_views(Record(hit["video"], -1, ""), Grid(2, 16), pixels=128)[0]
        row = top + number * (18 + 128 + 4)
        for column, frame in enumerate(frames):
            left = 4 + column * 132
            np.testing.assert_array_equal(picture[row : row + 128, left : left + 128], frame)


def test_of_many_frames_a_sheet_shows_the_first_the_last_and_some_between():
    frames = np.arange(9, dtype=np.uint8).reshape(9, 1, 1, 1) * np.ones((1, 16, 16, 3), np.uint8)
    picture = np.asarray(contact_sheet([Row("", frames)], columns=3, side=16))
    assert [int(picture[30, 4 + 20 * i + 8, 0]) for i in range(3)] == [0, 4, 8]
    assert picture.shape[1] == 2 * 4 + 3 * 20
    assert contact_sheet([Row("", frames[:2])], columns=3, side=16).width == 2 * 4 + 2 * 20
    assert contact_sheet([Row("a line of text" * 9)], columns=3, side=16).width > 300


def test_a_list_with_captions_is_embedded_and_found_again(run, videos, tmp_path, capsys):
    lines = [{"video": f"{i}.mp4", "caption": f"clip {i}"} for i in range(3)]
    lines.append({"video": "gone.mp4", "caption": "not there"})
    listed, out = tmp_path / "list.jsonl", tmp_path / "out"
    listed.write_text("".join(json.dumps(line) + "\n" for line in lines))
    options = ["--checkpoint", str(run), "--output", str(out), "--data", str(listed)]
    assert embed.main([*options, "--root", str(videos)]) == 1
    manifest = json.loads((out / "manifest.json").read_text())
    assert [entry["captions"] for entry in manifest["videos"]] == [[f"clip {i}"] for i in range(3)]
    assert [entry["number"] for entry in manifest["videos"]] == [0, 1, 2]
    assert [entry["video"] for entry in manifest["failed"]] == [str(videos / "gone.mp4")]
    capsys.readouterr()
    sheet = tmp_path / "sheet.png"
    assert search.main(["--index", str(out), "--sheet", str(sheet), TEXTS[0]]) == 0
    shown = capsys.readouterr().out
    assert all(f"{videos / f'{i}.mp4'}  (clip {i})" in shown for i in range(3)) and sheet.exists()


@pytest.mark.slow
def test_a_model_of_another_task_is_embedded_in_the_same_way(videos, tmp_path, capsys):
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nseven\nleft\n")
    config = test_retrieve.config_of(vocabulary=str(vocabulary))
    run, out = write_run(tmp_path / "umt", config), tmp_path / "out"
    options = ["--checkpoint", str(run), "--output", str(out), "--text", "seven left"]
    assert embed.main([*options, str(videos / "0.mp4")]) == 0
    task = create_task(config)
    _, variables = fluxjax.load(run / "model")
    clip = eval_views(Record(str(videos / "0.mp4"), -1, ""), Grid(2, 12))[0]
    batch = {"video": jnp.asarray(clip)[None], "text": jnp.asarray([[2, 6, 7, 3, 0, 0]], jnp.int32),
             "text_length": jnp.asarray([4], jnp.int32)}  # fmt: skip
    plan = task.eval_plans(Grid(2, 12))[None]
    for name, method in (("videos", task.embed_video), ("texts", task.embed_text)):
        expected = jax.jit(method, static_argnums=2)(variables, batch, plan)
        np.testing.assert_allclose(np.load(out / f"{name}.npy"), expected, atol=1e-5)
    capsys.readouterr()
    assert search.main(["--index", str(out), "--json", "left"]) == 0
    assert json.loads(capsys.readouterr().out)["hits"][0]["video"] == str(videos / "0.mp4")


def test_a_folder_without_a_run_needs_a_grid_and_a_vocabulary(run, videos, tmp_path, capsys):
    moved, out = tmp_path / "moved", tmp_path / "out"
    shutil.copytree(run / "model", moved)
    options = ["--checkpoint", str(moved), "--output", str(out), "--text", TEXTS[0]]
    assert embed.main(options) == 1
    assert "pass --grid FRAMESxPIXELS" in capsys.readouterr().err
    assert embed.main([*options, "--grid", "2x16"]) == 1
    assert "name its vocabulary by --vocabulary" in capsys.readouterr().err
    assert not out.exists()
    more = ["--grid", "2x16", "--vocabulary", "demo:captions"]
    assert embed.main([*options, *more, str(videos / "0.mp4")]) == 0
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["task"], manifest["vocabulary"]) == ("contrast", "demo:captions")


def test_another_model_in_the_place_of_the_indexs_is_refused(run, index, tmp_path, capsys):
    config = test_contrast.config()
    task = create_task(config)
    other = tmp_path / "other"
    fluxjax.save(other, task.model, jax.jit(task.init)(jax.random.key(1)))
    options = ["--index", str(index), "--vocabulary", "demo:captions", TEXTS[0]]
    assert search.main([*options, "--checkpoint", str(other)]) == 1
    assert f"is not of the model that is in {other} now" in capsys.readouterr().err
    shutil.copytree(run, tmp_path / "run")
    assert search.main([*options, "--checkpoint", str(tmp_path / "run")]) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--checkpoint", "missing", "clip.mp4"], "missing is not a folder"),
        ([], "nothing to embed: name videos, --data, --text or --texts"),
        (["--data", "list.txt", "clip.mp4"], "--data=list.txt and clip.mp4 are given"),
        (["--root", "videos", "clip.mp4"], "--root is of a data set: give --data"),
        (["--data", "missing.jsonl"], "missing.jsonl"),
        (["--texts", "missing.txt"], "missing.txt"),
        (["--text", " "], "--text='' says nothing"),
        (["--text", "a", "--grid", "2x17"], "grid 2x17 must have pixels that are a multiple of 8"),
        (["--text", "a", "--grid", "big"], "grid 'big' is not of the form"),
        (["--text", "a", "--budget", "4"], "--budget=4: the model has no token budgets"),
        (["--text", "a", "--sampling", "some"], "--sampling=some"),
        (["--text", "a", "--vocabulary", "missing.json"], "there is no vocabulary missing.json"),
        (["--batch-size", "0", "clip.mp4"], "--batch-size=0 must be at least 1"),
    ],
)
def test_mistakes_of_embed_are_named(run, tmp_path, options, message, capsys):
    out = tmp_path / "out"
    assert embed.main(["--checkpoint", str(run), "--output", str(out), *options]) == 1
    shown = capsys.readouterr().err
    assert message in shown and "Traceback" not in shown and not out.exists()


def test_a_model_without_text_tower_is_refused(tmp_path, capsys):
    run = tiny_run.write_run(tmp_path / "run")
    options = ["--checkpoint", str(run), "--output", str(tmp_path / "out")]
    assert embed.main([*options, "--text", "a"]) == 1
    shown = capsys.readouterr().err
    assert "is a FluxViT of task 'classify': it has no text tower" in shown
    assert embed.main([*options, "--vocabulary", "demo:captions", "--text", "a"]) == 1
    assert "has no meaning for a model of task 'classify'" in capsys.readouterr().err


def test_what_a_folder_holds_is_not_lost(run, index, tmp_path, capsys):
    before = (index / "manifest.json").read_bytes()
    options = ["--checkpoint", str(run), "--text", "a", "--output"]
    assert embed.main([*options, str(index)]) == 1
    assert "holds embeddings; add --overwrite" in capsys.readouterr().err
    assert (index / "manifest.json").read_bytes() == before
    (tmp_path / "thesis.tex").write_text("")
    assert embed.main([*options, str(tmp_path), "--overwrite"]) == 1
    assert "holds thesis.tex; name a folder of its own" in capsys.readouterr().err
    copy = tmp_path / "copy"
    shutil.copytree(index, copy)
    assert embed.main([*options, str(copy), "--overwrite"]) == 0
    assert len(np.load(copy / "videos.npy")) == 0
    capsys.readouterr()
    assert search.main(["--index", str(copy), "a"]) == 1
    assert "holds no video" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--index", "missing"], "missing holds no index; make one: python -m fluxjax.embed"),
        (["--top", "0"], "--top=0 must be at least 1"),
        (["--sheet", "sheet.jpg"], "--sheet=sheet.jpg must end in .png"),
        (["--checkpoint", "missing"], "missing is not a folder"),
        ([" "], "TEXT='' says nothing"),
    ],
)
def test_mistakes_of_search_are_named(index, options, message, capsys):
    assert search.main(["--index", str(index), "a", *options]) == 1
    assert message in capsys.readouterr().err


def test_a_damaged_index_is_named(index, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(index, copy)
    np.save(copy / "videos.npy", np.load(copy / "videos.npy")[:3])
    assert search.main(["--index", str(copy), "a"]) == 1
    assert "is damaged (manifest and arrays do not belong together)" in capsys.readouterr().err
    (copy / "videos.npy").write_bytes(b"")
    assert search.main(["--index", str(copy), "a"]) == 1
    assert "is damaged" in capsys.readouterr().err


def test_a_video_that_is_gone_is_named_in_the_sheet(run, tmp_path, capsys):
    clip, sheet = pathlib.Path(tmp_path / "clip.mp4"), tmp_path / "sheet.png"
    video_files.write_video(clip, frames=12)
    out = tmp_path / "out"
    assert embed.main(["--checkpoint", str(run), "--output", str(out), str(clip)]) == 0
    clip.unlink()
    assert search.main(["--index", str(out), "--sheet", str(sheet), "a"]) == 1
    assert f"error: {clip}: " in capsys.readouterr().err and sheet.exists()
