"""Keys of generators and the order of examples."""

import itertools
import pickle
import threading

import numpy as np
import pytest

from data_pipelines.clips import seeding
from data_pipelines.clips.seeding import Shuffle, Stream, rng


def test_generator_depends_on_its_key_alone():
    first = rng(7, 3, 41, Stream.CROP).random(4)
    rng(1).random()
    np.testing.assert_array_equal(first, rng(7, 3, 41, Stream.CROP).random(4))


def test_different_keys_give_different_streams():
    keys = [*itertools.product(range(3), repeat=3), (), (1,), (1, 0), (1, 0, 0, 0), (2**32 + 5,)]
    keys += [(5, 1), (2**32 + 5, 7), (5, 7 * 2**32 + 1), (2**64 - 1,), tuple(range(9))]
    draws = {tuple(rng(*key).integers(2**63, size=2)) for key in keys}
    assert len(draws) == len(keys)


@pytest.mark.parametrize("part", [-1, 2**64])
def test_key_out_of_range_is_refused(part):
    with pytest.raises(ValueError, match=str(part)):
        rng(0, part)


def test_stream_numbers_never_change():
    names = ("SHUFFLE", "GRID", "FRAMES", "CROP", "FLIP", "AUGMENT", "REPLACEMENT")
    assert [Stream[name].value for name in names] == list(range(7))
    assert len(set(Stream)) == len(Stream.__members__)  # an alias would share a stream


def test_every_epoch_visits_every_example_once_in_its_own_order():
    shuffle = Shuffle(seed=5, size=23)
    visits = [shuffle.at(position) for position in range(4 * 23)]
    assert [epoch for epoch, _ in visits] == [e for e in range(4) for _ in range(23)]
    orders = {tuple(x for e, x in visits if e == epoch) for epoch in range(4)}
    assert len(orders) == 4
    assert all(sorted(order) == list(range(23)) for order in orders)
    other_seed = [Shuffle(seed=6, size=23).at(position)[1] for position in range(23)]
    assert tuple(other_seed) not in orders


def test_order_does_not_depend_on_what_was_asked_before():
    size = 11
    expected = [Shuffle(3, size).at(position) for position in range(6 * size)]
    shuffle = Shuffle(3, size)
    for position in np.random.default_rng(0).permutation(6 * size):
        assert shuffle.at(position) == expected[position]
    resumed = Shuffle(3, size)
    assert [resumed.at(p) for p in range(37, 6 * size)] == expected[37:]


def test_shuffle_caches_two_epochs():
    shuffle = Shuffle(3, 10)
    for epoch in (0, 1, 0, 2):
        shuffle.at(epoch * 10)
    assert list(shuffle._permutations) == [0, 2]


def test_shuffle_is_safe_under_threads_and_survives_pickling():
    size, shuffle = 50, Shuffle(9, 50)
    expected = [Shuffle(9, size).at(p) for p in range(5 * size)]
    found = {}

    def ask(worker):
        positions = np.random.default_rng(worker).permutation(5 * size)
        found[worker] = all(shuffle.at(p) == expected[p] for p in positions)

    threads = [threading.Thread(target=ask, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys(range(4), True)
    assert pickle.loads(pickle.dumps(shuffle)).at(77) == expected[77]


def test_shuffle_refuses_what_it_cannot_order():
    with pytest.raises(ValueError, match="size 0"):
        Shuffle(0, 0)
    with pytest.raises(ValueError, match="-1"):
        Shuffle(0, 3).at(-1)


def test_weighted_draws_follow_the_weights_and_are_functions_of_the_position():
    draws = seeding.order(5, 4, np.array([1.0, 0.0, 3.0, 0.0]))
    found = [draws.at(position) for position in range(4000)]
    assert [epoch for epoch, _ in found[:9]] == [0, 0, 0, 0, 1, 1, 1, 1, 2]
    counts = np.bincount([example for _, example in found], minlength=4)
    assert counts[1] == counts[3] == 0 and abs(counts[2] / counts[0] - 3) < 0.3
    assert draws.at(1234) == seeding.WeightedDraws(5, [2, 0, 6, 0]).at(1234)
    assert isinstance(seeding.order(5, 4, None), seeding.Shuffle)


@pytest.mark.parametrize("weights", [[-1.0, 2.0], [0.0, 0.0], [np.nan, 1.0], [np.inf, 1.0]])
def test_weights_that_cannot_be_drawn_from(weights):
    with pytest.raises(ValueError, match="weights must be finite"):
        seeding.WeightedDraws(0, weights)
