"""Steps with non-finite numbers change nothing, are reported in full, and stop the run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluxjax.checkpoints.training import Checkpoints
from fluxjax.tasks import create_task
from fluxjax.tasks.classify import ClassifyTask
from fluxjax.training import loop, nonfinite
from tests import tiny
from tests.training import toy


def test_verdict_names_the_first_bad_leaf():
    grads = {"a": jnp.ones(3), "b": {"c": jnp.array([1.0, jnp.inf])}, "d": jnp.array([jnp.nan])}
    verdict = jax.jit(nonfinite.verdict)
    result = verdict(jnp.float32(1.0), grads)
    assert not result["finite"]
    assert nonfinite.gradient_paths(grads)[int(result["first_bad_gradient"])] == "b/c"
    grads = jax.tree.map(jnp.ones_like, grads)
    result = verdict(jnp.float32(jnp.inf), grads)
    assert not result["finite"] and int(result["first_bad_gradient"]) == -1
    assert verdict(jnp.float32(2.0), grads)["finite"]
    huge = grads | {"a": jnp.full(3, 1e30)}  # its norm, which clipping divides by, overflows
    assert not verdict(jnp.float32(2.0), huge)["finite"]


def test_the_report_says_what_was_fed_and_what_broke(tmp_path):
    trainer = toy.ToyTrainer(bad=(4,))
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        with pytest.raises(nonfinite.NonFiniteError) as error:
            toy.train(trainer, checkpoints)
    message = str(error.value)
    examples = ", ".join(str(300 + i) for i in range(8))
    for part in ("step 4 is", "loss nan", "gradient kernel", f"[{examples}]", "2x1x1",
                 "max_skipped_steps=0"):  # fmt: skip
        assert part in message, message


@pytest.mark.parametrize(
    ("bad", "allowed", "stops"),
    [
        ((2, 4, 6), 1, None),
        ((2, 3), 2, None),
        ((2, 3), 1, "step 3"),
        ((6,), 0, "step 6"),  # the last step
        ((3, 4, 5), 2, "step 5"),
    ],
)
def test_only_so_many_in_a_row(tmp_path, caplog, bad, allowed, stops):
    trainer = toy.ToyTrainer(bad=bad, max_skipped_steps=allowed)
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        if stops is None:
            assert int(toy.train(trainer, checkpoints).step) == 6
            assert caplog.text.count("is not finite and changes nothing") == len(bad)
        else:
            with pytest.raises(nonfinite.NonFiniteError, match=stops):
                toy.train(trainer, checkpoints)


def test_no_checkpoint_is_made_behind_a_step_that_ends_the_run(tmp_path):
    trainer = toy.ToyTrainer(bad=(3,), every=1)
    with Checkpoints(tmp_path, keep=5) as checkpoints:
        with pytest.raises(nonfinite.NonFiniteError):
            toy.train(trainer, checkpoints)
        assert checkpoints.latest_step() == 2


class PoisonedTask(ClassifyTask):
    """A real task whose second batch has a loss with an infinite gradient."""

    def loss(self, variables, batch, key, plan):
        output = super().loss(variables, batch, key, plan)
        kernel = variables["params"]["patch_embed"]["proj"]["kernel"]
        poison = jnp.where(batch["label"][0] == 3, jnp.inf, 0.0)
        first = next(iter(output.terms))
        value, weight = output.terms[first]
        return output._replace(
            terms={**output.terms, first: (value + poison * jnp.sum(kernel), weight)},
            mutable={"counts": jax.tree.map(lambda x: x + 1, variables["counts"])},
        )

    def init(self, key):
        return super().init(key) | {"counts": {"batches": jnp.zeros(())}}


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_bad_step_leaves_every_part_of_the_state(accumulate):
    config = tiny.get_config()
    config.optim.ema, config.optim.clip_norm = 0.5, 1.0
    config.optim.accumulate_steps = accumulate
    one = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("data",))
    trainer = loop.Trainer.create(PoisonedTask(create_task(config).config), one)
    (program,), state = trainer.compile_steps(), trainer.initial_state()
    spec = trainer.task.batch_spec(config.batch_size)
    good = {name: jnp.ones(x.shape, x.dtype) for name, x in spec.items()}
    bad = good | {"label": good["label"] + 2}
    history, rates = [jax.device_get(state)], []
    for batch in (good, bad, good, bad, good):
        state, metrics = program(state, batch)
        history.append(jax.device_get(state))
        rates.append(float(metrics["learning_rate"]))
        assert bool(metrics["finite"]) == (batch is good)
        paths = [*nonfinite.gradient_paths(state.params), None]
        expected = None if batch is good else "patch_embed/proj/kernel"
        assert paths[int(metrics["first_bad_gradient"])] == expected
    for step in (2, 4):
        before, after = history[step - 1], history[step]
        assert int(after.step) == int(before.step) + 1
        jax.tree.map(np.testing.assert_array_equal, after.replace(step=0), before.replace(step=0))
    assert float(history[-1].mutable["counts"]["batches"]) == 3.0
    kernels = [s.params["patch_embed"]["proj"]["kernel"] for s in history]
    assert (kernels[-1] != kernels[0]).any() and np.isfinite(kernels[-1]).all()
    # The schedule rests as well: its position is the number of updates.
    assert rates[1] == rates[2] and rates[3] == rates[4]
