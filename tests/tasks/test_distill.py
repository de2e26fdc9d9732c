"""Flux-UMT: selection, nested budgets, the number of teacher passes and programs, checkpoints."""

import functools
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from jax.sharding import PartitionSpec

import fluxjax
from fluxjax.checkpoints.training import Checkpoints, newest_manifest
from fluxjax.config.keys import check_config
from fluxjax.tasks import create_task
from fluxjax.tasks.teacher import COLLECTION
from fluxjax.tokens.selection import rank_tokens, select, selection_scores
from fluxjax.training import compilation, loop
from fluxjax.training.mesh import put_batch
from tests.tasks.distill_tiny import batch_of, distill_config, write_teacher


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return write_teacher(tmp_path_factory.mktemp("teacher") / "model")


@pytest.fixture(scope="module")
def trainer(teacher):
    trainer = loop.Trainer.create(create_task(distill_config(teacher)))
    trainer.compile_steps = functools.cache(trainer.compile_steps)  # one program for all tests
    return trainer


@pytest.fixture(scope="module")
def variables(trainer):
    """Of the whole task, on one device; decoders large enough that losses tell budgets apart."""
    both = {**trainer.initial_state().variables(), **trainer.constants}
    return jax.device_get(both)


def on_device(task, batch):
    return {name: jnp.asarray(batch[name]) for name in task.batch_spec(len(batch["draw"]))}


def test_one_program_for_all_grids_and_one_pass_of_the_teacher(trainer, tmp_path):
    task = trainer.task
    passes = []

    def count(call, inputs, options, context):
        if context.method_name == "teach":
            passes.append(context.module)
        return call(*inputs, **options)

    before = compilation.counts["train step distill"]
    with nn.intercept_methods(count):
        (program,) = trainer.compile_steps()
    assert len(passes) == 1 and type(passes[0]) is type(task.teacher)
    assert len(task.grids) > 4
    state = trainer.initial_state()
    frozen = jax.device_get(trainer.constants)
    losses = []
    names = task.batch_spec(8)
    hosts = [batch_of(task, grid, number) for number, grid in enumerate(task.grids)]
    batches = [put_batch({name: one[name] for name in names}, trainer.mesh) for one in hosts]
    constants = trainer.step_constants
    with compilation.CompileCounter() as late:
        for batch in batches:
            state, metrics = program(state, batch, *constants)
            losses.append(metrics)
    assert compilation.counts["train step distill"] - before == 1
    assert late.count == 0, "something was compiled for a grid"
    losses = [{name: float(value) for name, value in one.items()} for one in losses]
    for loss in losses:
        means = [np.mean([loss[f"{name}_{b}"] for b in (8, 6, 4)]) for name in ("middle", "final")]
        np.testing.assert_allclose([loss["middle"], loss["final"]], means, rtol=1e-5)
        np.testing.assert_allclose(loss["loss"], sum(means), rtol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, frozen, jax.device_get(trainer.constants))


def test_the_teacher_is_bfloat16_and_no_part_of_the_state(trainer, teacher, tmp_path):
    leaves = jax.tree.leaves(trainer.constants)
    assert leaves and {x.dtype.name for x in leaves} == {"bfloat16"}
    _, stored = fluxjax.load(teacher)
    flat = flatten_dict(jax.device_get(trainer.constants)[COLLECTION])
    assert flat.keys() == flatten_dict(stored["params"]).keys()
    for path, value in flatten_dict(stored["params"]).items():
        np.testing.assert_array_equal(flat[path], np.asarray(value).astype(jnp.bfloat16))
    student = jax.eval_shape(trainer.task.init, jax.random.key(0))["params"]
    assert jax.tree.structure(trainer.abstract_state.params) == jax.tree.structure(student)
    assert not jax.tree.leaves((trainer.abstract_state.frozen, trainer.abstract_state.mutable))
    with Checkpoints(tmp_path, 1, trainer.task.config.to_dict()) as checkpoints:
        checkpoints.save(1, trainer.initial_state())
    _, record = newest_manifest(tmp_path)
    assert not any(COLLECTION in json.dumps(path) for path in record["tree"])
    assert record["config"]["distill"]["teacher"] == teacher
    assert len(record["config"]["distill"]["teacher_hash"]) == 64


def test_the_teacher_is_cut_over_devices_as_parameters_are(teacher):
    config = distill_config(teacher)
    config.mesh.fsdp, config.mesh.tensor = 2, 2
    cut = loop.Trainer.create(create_task(config))
    theirs, ours = cut.abstract_constants[COLLECTION], cut.abstract_state.params
    for block in (theirs["blocks_1"], ours["blocks_1"]):
        assert block["attn"]["qkv"]["kernel"].sharding.spec == PartitionSpec("fsdp", "tensor")
        assert block["mlp"]["fc2"]["kernel"].sharding.spec == PartitionSpec("tensor", "fsdp")


def test_a_run_that_resumes_ends_in_the_same_bits(trainer, tmp_path):
    config, task = trainer.task.config, trainer.task

    def batches(first):
        for step in range(first, config.total_steps):
            yield batch_of(task, task.grids[step % len(task.grids)], step)

    def run(folder, steps):
        with config.unlocked():
            config.total_steps = steps
        with Checkpoints(folder, keep=1) as checkpoints:
            return loop.train(trainer, batches, checkpoints, lambda step, line, scalars: None)

    whole = run(tmp_path / "whole", 4)
    run(tmp_path / "parts", 2)
    resumed = run(tmp_path / "parts", 4)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(whole), jax.device_get(resumed))
    assert int(resumed.step) == 4


def test_the_student_sees_nested_sets_of_what_the_teacher_sees(trainer, variables):
    task = trainer.task
    grid = task.grids[-1]
    batch = on_device(task, batch_of(task, grid))

    @jax.jit
    def seen(variables, batch):
        pixels = task.tokens(batch)
        clips = task._selected(variables, pixels, batch["draw"])
        weights = {"params": variables[COLLECTION]}
        embedded, _ = task.teacher.apply(weights, pixels, method="embed")
        ranking = rank_tokens(embedded, selection_scores(embedded, "group_dynamic"))
        taught = task.teacher.apply(weights, clips, task.taught_layers, method="teach")
        visible = task._visible(taught.attention, clips, batch["draw"])
        return clips, select(pixels, ranking, 8), visible

    clips, ranked, visible = seen(variables, batch)
    np.testing.assert_array_equal(clips.position, ranked.position)
    sets = [[set(row) for row in np.asarray(one.index).tolist()] for one in visible]
    for large, small in zip(sets, sets[1:], strict=False):
        assert all(s < b for s, b in zip(small, large, strict=True))
    assert [len(rows[0]) for rows in sets] == [8, 6, 4]
    for one in visible:
        assert np.all(np.diff(one.index, axis=1) > 0)


def test_draws_depend_on_the_example_alone(trainer, variables):
    task = trainer.task
    grid = task.grids[0]
    whole = batch_of(task, grid, seed=3)
    part = {name: value[5:6] for name, value in whole.items()}
    run = jax.jit(lambda batch: task.losses(variables, batch, None))
    alone, among = run(on_device(task, part)), run(on_device(task, whole))
    for name, value in alone.items():
        np.testing.assert_allclose(value[0], among[name][5], rtol=2e-2)  # the teacher is bfloat16
    other = run(on_device(task, whole | {"draw": whole["draw"] + 1}))
    assert np.max(np.abs(other["middle_4"] - among["middle_4"])) > 1e-3
    np.testing.assert_allclose(other["middle_8"], among["middle_8"], rtol=1e-5)  # it sees all 8


def test_tokens_of_high_attention_are_seen_more_often(trainer):
    task = trainer.task
    clips = task.tokens(on_device(task, batch_of(task, task.grids[0], size=4)))
    count = clips.valid.shape[1]
    clips = clips.replace(valid=jnp.broadcast_to(jnp.arange(count) < 8, (4, count)))
    attention = jnp.tile(jnp.where(jnp.arange(count) < 2, 0.3, 0.4 / 6)[None], (2048, 1))
    clips = jax.tree.map(lambda x: jnp.repeat(x, 512, axis=0), clips)
    visible = task._visible(attention, clips, jnp.arange(2048))[2]
    seen = np.bincount(np.asarray(visible.index).ravel(), minlength=count) / 2048
    assert not np.any(seen[8:])
    # Without replacement, 4 of 8 with weights (.3, .3, 6 x .0667): by enumeration.
    np.testing.assert_allclose(seen[:2], expected_inclusion(), atol=0.03)
    np.testing.assert_allclose(seen[2:8], (4 - 2 * expected_inclusion()) / 6, atol=0.03)


def expected_inclusion():
    """Chance that the first of weights (.3, .3, .0667 x 6) is among 4 draws."""
    weights = np.array([0.3, 0.3] + [0.4 / 6] * 6)

    def chance(left, draws):
        if not draws:
            return 0.0
        total = weights[list(left)].sum()
        return sum(
            weights[i] / total * (1.0 if i == 0 else chance(left - {i}, draws - 1)) for i in left
        )

    return chance(frozenset(range(8)), 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"distill.draws": "twice"}, "config.distill.draws='twice' must be one of"),
        ({"distill.teacher": None}, "config.distill.teacher=None must name the teacher's run"),
        ({"distill.teacher_hash": "0" * 64}, "is another model than this run began with"),
        ({"distill.tokens": 4}, r"budgets \(8, 6, 4\) must lie between 1 and the 4 tokens"),
        ({"distill.tokens": 40}, "tokens=40 is more than the 36 tokens"),
        ({"budgets": (4, 8)}, "from the largest to the smallest"),
        ({"mixing.prob": 0.5}, "config.mixing.prob=0.5 has no effect on task 'distill'"),
        ({"eval.grids": ("4x30",)}, "4x30 must have pixels that are a multiple of the patch"),
        ({"pretrain_for": "teacher"}, "config.pretrain_for='teacher' must be a key"),
    ],
)
def test_wrong_configs_are_named(teacher, change, message):
    config = distill_config(teacher)
    config.update_from_flattened_dict(change)
    with pytest.raises(ValueError, match=message):
        check_config(config)


def test_a_teacher_of_another_size_is_refused_where_it_is_read(teacher, tmp_path):
    config = distill_config(None)
    config.distill.teacher_model = "internvideo2_ti14"
    task = create_task(config)
    task.own.teacher = teacher  # as a run of config.pretrain_for leaves it
    with pytest.raises(ValueError, match=r"width=16 not 128, .*use another --workdir"):
        task.constants().load()
