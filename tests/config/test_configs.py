import importlib.util
import json
import pathlib

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from fluxjax.config import stored as stored_config
from fluxjax.config.keys import base_config, check_config
from fluxjax.config.lengths import resolve_lengths
from fluxjax.config.ranges import check_devices
from fluxjax.models.students import aligned_blocks
from fluxjax.tasks import create_task
from fluxjax.tokens.grids import Grid
from fluxjax.training.loop import Trainer
from fluxjax.training.mesh import AXES
from fluxjax.training.schedules import learning_rate

ROOT = pathlib.Path(__file__).parents[2]
CONFIGS = [
    ("fluxvit_ti", None), ("fluxvit_s", None),
    pytest.param("fluxvit_s", "k400", marks=pytest.mark.slow),
    pytest.param("fluxvit_s", "ssv2", marks=pytest.mark.slow),
    pytest.param("fluxvit_b", None, marks=pytest.mark.slow),
    pytest.param("fluxvit_b", "ssv2", marks=pytest.mark.slow),
    ("finetune", "cpu"), pytest.param("finetune", "gpu24", marks=pytest.mark.slow),
    pytest.param("finetune", "gpu80", marks=pytest.mark.slow),
    ("evl_demo", None), ("evl_demo", "frame"),
    ("avion_demo", None), pytest.param("avion_ego4d", None, marks=pytest.mark.slow),
    pytest.param("avion_ego4d", "l14_lavila", marks=pytest.mark.slow),
    pytest.param("avion_ek100_mir", None, marks=pytest.mark.slow),
    pytest.param("avion_ek100_cls", None, marks=pytest.mark.slow),
    pytest.param("avion_ek100_cls", "l14", marks=pytest.mark.slow),
    ("videomae_demo", None), ("videomae_demo", "scratch"),
    pytest.param("videomae_b16_k400", "pretrain", marks=pytest.mark.slow),
    pytest.param("videomae_b16_k400", "finetune", marks=pytest.mark.slow),
    pytest.param("evl_b16_k400", "16", marks=pytest.mark.slow),
    pytest.param("evl_b16_ssv2", None, marks=pytest.mark.slow),
    pytest.param("evl_l14_k400", "336", marks=pytest.mark.slow),
    pytest.param("umt_retrieval", "msrvtt", marks=pytest.mark.slow),
    pytest.param("umt_retrieval", "l16_didemo_zeroshot", marks=pytest.mark.slow),
    pytest.param("umt_qa", "msvd", marks=pytest.mark.slow),
    pytest.param("umt_mc", None, marks=pytest.mark.slow),
    ("umt_demo", None), ("umt_demo", "qa"),
    pytest.param("umt_pretrain_text", None, marks=pytest.mark.slow),
    pytest.param("umt_pretrain_text", "l16", marks=pytest.mark.slow),
    ("ffn_demo", None), ("ffn_demo", "st4"),
    pytest.param("ffn_tsm_ssv1", None, marks=pytest.mark.slow),
    pytest.param("ffn_tsm_ssv1", "k400", marks=pytest.mark.slow),
    pytest.param("ffn_tsm_ssv1", "ssv1_st8", marks=pytest.mark.slow),
    pytest.param("ffn_tea_ssv1", None, marks=pytest.mark.slow),
    pytest.param("ffn_slowfast_ssv1", None, marks=pytest.mark.slow),
    pytest.param("ffn_uniformer_ssv1", None, marks=pytest.mark.slow),
    ("flux_umt_demo", None), ("flux_umt_demo", "scratch"),
    pytest.param("flux_umt_s", None, marks=pytest.mark.slow),
    pytest.param("flux_umt_b", None, marks=pytest.mark.slow),
    ("flux_umt_demo", "teacher"), ("flux_umt_demo", "student"), ("flux_clip_demo", None),
    pytest.param("umt_pretrain", "l16", marks=pytest.mark.slow),
    pytest.param("flux_clip_s", None, marks=pytest.mark.slow),
    pytest.param("flux_clip_b", "second", marks=pytest.mark.slow),
    pytest.param("fluxvit_s", "k710", marks=pytest.mark.slow),
    pytest.param("fluxvit_b", "coin", marks=pytest.mark.slow),
]  # fmt: skip


def load(name, variant):
    spec = importlib.util.spec_from_file_location(name, ROOT / "configs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module, module.get_config(*([variant] if variant else []))


@pytest.mark.parametrize(("name", "variant"), CONFIGS)
def test_configs_are_closed_and_their_states_have_a_shape(name, variant):
    module, config = load(name, variant)
    for key in ("train", "test"):
        config.data[key] = config.data[key] or "list.txt"
    if name.startswith("evl") and config.pretrain is None:
        config.data.train = "dummy"  # what a frozen tower needs no weights for
    if "vocabulary" in config.get(config.task, {}):
        config[config.task].vocabulary = config[config.task].vocabulary or "vocab.txt"
    config.dry_run = config.task in (
        "distill",
        "pretrain_umt",
    )  # what a teacher needs no weights for
    check_config(config)
    config.num_classes = config.num_classes or 4
    resolve_lengths(config, videos=1000)
    one = jax.sharding.Mesh(np.array(jax.devices()[:1]).reshape((1,) * len(AXES)), AXES)
    trainer = Trainer.create(create_task(config), one)  # recipes for one device have odd batches
    shapes = jax.tree.leaves(trainer.abstract_state.params)
    assert {x.dtype.name for x in shapes} == {"float32"}
    head, text = f"python -m fluxjax.main --config configs/{name}.py", module.__doc__
    assert head in text and "Score" in text, "the header names no command or no score"


def test_the_published_recipe_is_the_specifications():
    _, config = load("fluxvit_s", "k400")
    task = create_task(config)
    assert len(task.grids) == 41 and task.slots == 6144 and task.budgets == (3072, 2048, 1024)
    assert config.optim.lr * config.batch_size / 256 == pytest.approx(8e-4)
    assert config.optim.end_lr * config.batch_size / 256 == pytest.approx(4e-6)


def test_flux_umts_recipe_is_the_papers():
    for size, parameters in (("s14", 384), ("b14", 768)):
        _, config = load(f"flux_umt_{size[0]}", None)
        config.dry_run = True
        task = create_task(config)
        assert task.model.width == parameters and task.budgets == (2048, 1536, 1024)
        assert (task.teacher.width, task.teacher.depth) == (1408, 40)
        assert task.taught_layers == (23, 26, 29, 33, 36, 39)
        assert aligned_blocks(task.model) == (6, 7, 8, 9, 10, 11)
        assert all(2048 <= g.tokens() <= 4096 and g.frames % 2 == 0 for g in task.grids)
        assert {g.resolution for g in task.grids} == {168, 196, 224, 252, 280}
        schedule = learning_rate(config)
        steps = config.total_steps // 100
        assert float(schedule(20 * steps)) == pytest.approx(1e-3, rel=1e-4)
        assert float(schedule(0)) == 0.0
        assert config.optim.warmup_steps == 20 * steps
        assert (config.optim.b1, config.optim.b2, config.optim.eps) == (0.9, 0.98, 1e-6)
        assert (config.optim.weight_decay, config.optim.clip_norm) == (0.05, 5.0)
        assert (task.model.drop_path, config.batch_size) == (0.05, 2048)


@pytest.mark.parametrize(("variant", "clips", "crops"), [("8", 3, 1), ("16", 1, 3), ("32", 1, 3)])
def test_evls_recipe_is_the_specifications(variant, clips, crops):
    for size in ("b16", "l14"):
        _, config = load(f"evl_{size}_k400", variant)
        parts = config.optim.accumulate_steps
        assert (config.batch_size * parts, config.total_steps // parts) == (256, 50_000)
        schedule = learning_rate(config)
        np.testing.assert_allclose([schedule(0), schedule(25_000)], [4e-4, 2e-4], rtol=1e-5)
        assert config.data.sampling == f"dense:{8 if variant == '32' else 16}"
        assert (config.eval.clips, config.eval.crops) == (clips, crops)
        assert config.optim.decay_all and not config.data.flip and not config.mixing.prob
        assert create_task(config).grids == (Grid(int(variant), 224),)


@pytest.mark.parametrize(("variant", "flip"), [("k400", True), ("ssv2", False)])
def test_the_published_recipes_augment(variant, flip):
    _, config = load("fluxvit_s", variant)
    assert config.data.rand_augment == "rand-m7-n4-mstd0.5-inc1"
    assert (config.erasing.prob, config.data.flip) == (0.25, flip)
    assert config.optim.accumulate_steps == 1


def test_every_configs_file_is_tested():
    assert {path.stem for path in (ROOT / "configs").glob("*.py")} == {
        case.values[0] if hasattr(case, "values") else case[0] for case in CONFIGS
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"optim.lrr": 1.0},
            r"unknown config key config.optim.lrr; did you mean config.optim.lr\?",
        ),
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
        ({"init_from": ""}, "config.init_from: '' names no folder and no file"),
        ({"data.classes": (0,)}, r"config.data.classes=\(0,\) must name two classes or more"),
        ({"num_classes": 0}, "config.num_classes=0 must be at least 1"),
        ({"data.repeats": 3}, "must be a multiple of data.repeats=3"),
        ({"mixing.prob": 1.0, "grids.per_clip": True}, "mixup needs one grid a batch"),
        ({"mixing.prob": 1.0, "batch_size": 15}, "must be even"),
        ({"mixing.prob": 1.5}, "mixing.prob=1.5 must be a probability"),
        ({"erasing.prob": -0.1}, "erasing.prob=-0.1 must be a probability"),
        ({"data.rand_augment": "rand-m7"}, "config.data.rand_augment: 'rand-m7' lacks n"),
        ({"optim.accumulate_steps": 0}, "accumulate_steps=0 must be at least 1"),
        (
            {"optim.accumulate_steps": 3},
            "total_steps=100 must be a multiple of optim.accumulate_steps=3",
        ),
        ({"optim.accumulate_steps": 50}, "optim.warmup_steps=20 must be a multiple"),
        ({"data.train": ""}, "must name videos"),
        ({"optim.warmup_steps": 1000}, "between 0 and total_steps"),
        ({"epochs": 2.0}, "epochs=2 and config.total_steps=100 both say how long"),
        ({"total_steps": None}, "total_steps and config.epochs are both None"),
        ({"epochs": 0.0, "total_steps": None}, "config.epochs=0.0 must be positive"),
        ({"budgets": (12, 24)}, "from the largest to the smallest"),
        ({"budgets": (1000,)}, "must lie between 1 and"),
        ({"grids.resolutions": (57,)}, "not multiples of the patch size 14"),
        ({"grids.min_tokens": 5000}, "no grid of frames"),
        ({"eval.grids": ("8by56",)}, "FRAMESxRESOLUTION"),
        ({"method": "flux_mutli"}, "did you mean 'flux_multi'"),
        ({"grids.frames": (0, 4)}, r"grids.frames=\(0, 4\) must be whole numbers of at least 1"),
        ({"budgets": (128.0,)}, r"budgets=\(128.0,\) must be whole numbers"),
        ({"eval.budgets": ()}, r"eval.budgets=\(\) must be .* at least one"),
        ({"data.crop_scale": (0.5, 0.1)}, "crop_scale=.* must be two ascending numbers"),
        ({"optim.b2": 1.0}, "optim.b2=1.0 must be at least 0 and less than 1"),
        ({"optim.eps": 0.0}, "optim.eps=0.0 must be positive"),
        ({"optim.lr": -1.0}, "optim.lr=-1.0 must not be negative"),
        ({"optim.lr": float("nan")}, "optim.lr=nan must not be negative"),
        ({"optim.clip_norm": 0.0}, "optim.clip_norm=0.0 must be positive"),
        ({"model.drop_path": 1.0}, "model.drop_path=1.0"),
        ({"max_skipped_steps": -1}, "max_skipped_steps=-1 must not be negative"),
        ({"checkpoint.keep": 0}, "checkpoint.keep=0 must be at least 1"),
    ],
)
def test_wrong_configs_are_named(change, message):
    config = ConfigDict(base_config().to_dict())
    for key, value in change.items():
        *path, last = key.split(".")
        part = config
        for name in path:
            part = part[name]
        part[last] = value
    with pytest.raises(ValueError, match=message):
        check_config(config)


def test_batches_that_devices_cannot_share_are_named():
    config = base_config()
    check_devices(config, 8)
    config.eval.batch_size = 12
    with pytest.raises(ValueError, match="config.eval.batch_size=12 must be a multiple of the 8"):
        check_devices(config, 8)


@pytest.mark.parametrize(("name", "variant"), CONFIGS)
def test_a_stored_config_is_the_same_config(tmp_path, name, variant):
    _, config = load(name, variant)
    stored_config.write(config, tmp_path / "config.json")
    again = stored_config.get_config(str(tmp_path / "config.json"))
    assert again.to_dict() == config.to_dict()
    assert repr(again.to_dict()) == repr(config.to_dict()), "types differ"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["optim"].update(lrr=1), "unknown config key config.optim.lrr; did you mean"),
        (lambda c: c.update(wd=1e-3), "config.wd; here it is config.optim.weight_decay"),
        (lambda c: c["model"].pop("name"), "config.model.name is missing"),
        (lambda c: c.update(seed="1"), "config.seed='1' must be of type int"),
        (lambda c: c.update(seed=1.5), "config.seed=1.5 must be of type int"),
        (lambda c: c.update(seed=True), "config.seed=True must be of type int"),
        (lambda c: c["data"].update(flip=1), "config.data.flip=1 must be of type bool"),
        (lambda c: c.update(optim=3), "config.optim must be an object, not int"),
        (lambda c: c.update(budgets=7), "config.budgets=7 must be of type tuple"),
    ],
)
def test_a_spoilt_stored_config_is_refused(tmp_path, change, message):
    path = tmp_path / "config.json"
    stored_config.write(base_config(), path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        stored_config.get_config(str(path))


@pytest.mark.parametrize("text", ["", "[1]", "{", "nul", '{"task": ' * 5000])
def test_a_file_that_is_no_config_is_refused(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="config.json cannot be used as a config"):
        stored_config.get_config(str(path))


def test_what_a_stored_config_lacks_has_todays_defaults_and_is_named(tmp_path, caplog):
    path = tmp_path / "config.json"
    config = base_config()
    config.pretrain = base_config("clip_ti8")
    config.seed, config.optim.ema = 3, 0.99
    stored_config.write(config, path)
    content = json.loads(path.read_text())
    del content["log_every"], content["optim"]["ema"], content["pretrain"]["data"]
    path.write_text(json.dumps(content))
    found = stored_config.get_config(str(path))
    assert found.seed == 3 and found.optim.ema is None and found.pretrain.data.train == "demo:easy"
    config.optim.ema = None
    assert found.to_dict() == config.to_dict()
    (message,) = caplog.messages
    assert "config.log_every, config.optim.ema, config.pretrain.data:" in message
    stored_config.write(config, path)
    caplog.clear()
    stored_config.get_config(str(path))
    assert not caplog.messages, "something is named where nothing is lacking"


def test_umts_recipes_are_the_releases():
    """Specification, section 5 and 1.6: rates at 256 clips, lengths, schedules, 12 frames or 4."""
    for name, rate, epochs, length, merge in (
        ("msrvtt", 1e-5, 10, 32, (600, 200, 100)), ("msvd", 1e-5, 5, 64, (450, 250, 200)),
        ("anet", 4e-5, 20, 150, (500,)), ("didemo", 2e-5, 12, 64, (250, 150, 150, 150)),
        ("lsmdc", 2e-5, 10, 96, (400, 150, 150)), ("ssv2_label", 5e-5, 10, 25, (200,) * 3 + (100,)),
        ("ssv2_template", 1e-4, 10, 25, (400, 300)),
    ):  # fmt: skip
        _, config = load("umt_retrieval", name)
        assert (config.optim.lr * config.batch_size / 256, config.epochs) == (rate, epochs)
        assert (config.retrieve.length, config.retrieve.merge) == (length, merge)
        assert config.grids.frames == (12,) and config.eval.grids == ("12x224",)
        assert config.data.paragraphs == (name in ("anet", "didemo"))
        assert config.data.first_seconds == (30.0 if name == "didemo" else None)
        assert config.data.flip == (not name.startswith("ssv2"))
        assert (config.eval.crop_place, config.data.sampling) == ("whole", "interval")
        _, config = load("umt_retrieval", f"{name}_zeroshot")
        assert config.grids.frames == (4,) and config.retrieve.merge == ()
    _, large = load("umt_retrieval", "l16_msrvtt")
    assert large.model.name == "umt_l16" and large.retrieve.merge == (550, 400)
    _, questions = load("umt_qa", "msvd")
    assert questions.answer.merge == (600, 200) and questions.answer.first_token_twice
    assert (questions.answer.length, questions.answer.answer_length) == (25, 5)
    _, choice = load("umt_mc", None)
    assert choice.eval.evaluators == ("multiple_choice",) and choice.retrieve.merge == ()
    for name in ("umt_retrieval", "umt_qa", "umt_mc", "umt_pretrain_text"):
        with pytest.raises(ValueError, match="unknown variant 'kinetics'"):
            load(name, "kinetics")
    _, text = load("umt_pretrain_text", None)
    assert text.optim.lr * text.batch_size / 256 == pytest.approx(1e-4)
    assert text.pretrain_umt.words == 0.5 and text.grids.frames == (4,)
