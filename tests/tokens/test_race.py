"""Races for visible tokens: over a clip, and in every frame."""

import jax
import numpy as np

from fluxjax.tokens.race import first_of, race_noise, race_order, race_order_by_frame


def test_every_frame_has_a_race_of_its_own():
    rng = np.random.default_rng(0)
    weights, noise = rng.uniform(0.1, 1.0, (2, 12)), rng.exponential(size=(2, 12))
    order = np.asarray(race_order_by_frame(weights, noise, 3))
    speed = (weights / noise).reshape(2, 3, 4)
    for clip in range(2):
        assert sorted(order[clip]) == list(range(12))
        for place in range(4):
            found = order[clip].reshape(4, 3)[place]
            expected = [4 * t + np.argsort(-speed[clip, t])[place] for t in range(3)]
            np.testing.assert_array_equal(found, expected)
    seen = np.asarray(first_of(order, 6))
    np.testing.assert_array_equal(seen // 4, [[0, 0, 1, 1, 2, 2]] * 2)


def test_one_frame_is_the_race_of_the_clip():
    weights = np.random.default_rng(1).uniform(size=(2, 8))
    noise = race_noise(jax.random.split(jax.random.key(0), 2), 8)
    np.testing.assert_array_equal(
        race_order_by_frame(weights, noise, 1), race_order(weights, noise)
    )
