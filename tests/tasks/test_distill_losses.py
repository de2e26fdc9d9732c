"""Losses of distillation: what counts, and how much."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluxjax.models.internvideo2 import TeacherOutput
from fluxjax.models.students import Aligned, Visible
from fluxjax.tasks.distill_losses import aligned_parts, over_budgets, unit_distance
from fluxjax.tokens.race import first_of, race_order


def unit(*shape, seed=0):
    x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_it_is_the_squared_distance_of_valid_tokens():
    student, teacher = unit(2, 3, 5, 4), unit(2, 3, 5, 4, seed=1)
    valid = np.arange(5)[None] < np.array([[5], [3], [1]])
    squared = np.sum((student - teacher) ** 2, axis=-1)
    expected = [np.mean(squared[:, row, :n]) for row, n in enumerate((5, 3, 1))]
    np.testing.assert_allclose(unit_distance(student, teacher, valid), expected, rtol=1e-5)
    whole = unit_distance(student, teacher)
    np.testing.assert_allclose(whole, np.mean(squared, axis=(0, 2)), rtol=1e-5)
    assert np.all(np.abs(unit_distance(teacher, teacher)) < 1e-6)


def test_no_gradient_flows_into_the_teacher():
    student, teacher = unit(1, 2, 3, 4), unit(1, 2, 3, 4, seed=1)
    gradient = jax.grad(lambda s, t: jnp.sum(unit_distance(s, t)), argnums=(0, 1))(student, teacher)
    assert np.any(gradient[0]) and not np.any(gradient[1])


def test_targets_are_at_the_visible_tokens_and_cls():
    taught = TeacherOutput(unit(2, 2, 7, 4), unit(2, 4, seed=1), None)
    index = np.array([[1, 4, 5], [0, 2, 3]])
    rows = [taught.middle[:, row, [0, *(1 + index[row])]] for row in range(2)]
    exact = Aligned(np.stack(rows, axis=1), taught.final)
    parts = aligned_parts(exact, taught, Visible(index))
    for value in parts.values():
        np.testing.assert_allclose(value, 0.0, atol=1e-6)
    assert np.all(aligned_parts(exact, taught, Visible(index[::-1]))["middle"] > 0.1)


def test_budgets_weigh_the_same():
    parts = [{"middle": jnp.array([1.0, 2.0])}, {"middle": jnp.array([3.0, 0.0])}]
    np.testing.assert_array_equal(over_budgets(parts, "mean")["middle"], [2.0, 1.0])
    np.testing.assert_array_equal(over_budgets(parts, "sum")["middle"], [4.0, 2.0])
    with pytest.raises(ValueError, match="reduce='max' is unknown"):
        over_budgets(parts, "max")


def test_the_race_is_won_by_weight_over_noise_and_lost_by_padding():
    weights = np.array([[0.1, 0.4, 0.0, 0.2, 0.9]], np.float32)
    noise = np.array([[0.1, 0.2, 0.5, 0.8, 0.1]], np.float32)
    valid = np.array([[1, 1, 1, 1, 0]], bool)
    order = race_order(weights, noise, valid)
    np.testing.assert_array_equal(order, [[1, 0, 3, 2, 4]])
    np.testing.assert_array_equal(first_of(order, 3), [[0, 1, 3]])
    assert race_order(weights, noise)[0, 0] == 4
