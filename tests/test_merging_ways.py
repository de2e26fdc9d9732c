"""Merging without saliency and at random, what vid-TLDR is compared with; and the table."""

import jax
import numpy as np
import pytest

from benchmarks.umt_merging_ways import at_random, by_similarity, table_of
from fluxjax.models.blocks import Merging


@pytest.mark.parametrize("way", [by_similarity, at_random])
def test_tokens_merge_to_their_mean(way):
    """Sums by mass stay what they were, over two merges; and other pairs in every clip."""
    x = np.random.default_rng(0).standard_normal((2, 12, 5), np.float32)
    sharp = np.random.default_rng(1).standard_normal((2, 12), np.float32)
    first = way(x, sharp, None, Merging(4, None))
    assert first.values.shape == (2, 8, 5)
    second = way(first.values, sharp[:, :8], None, Merging(3, first.mass))
    assert second.values.shape == (2, 5, 5)
    for left in (first, second):
        np.testing.assert_allclose(left.mass.sum(axis=1), 12, rtol=1e-5)
        total = (left.mass[..., None] * left.values).sum(axis=1)
        np.testing.assert_allclose(total, x.sum(axis=1), atol=1e-4)
    assert np.any(first.assignment[0] != first.assignment[1])
    assert way(x, None, None, Merging(0, None)).values is x


def test_only_chance_merges_what_is_not_alike():
    """Of six pairs of equal tokens, similarity merges equal ones, and nothing changes."""
    x = np.random.default_rng(0).standard_normal((1, 6, 8), np.float32).repeat(2, axis=1)
    alike = by_similarity(x, np.zeros((1, 12)), None, Merging(6, None))
    np.testing.assert_allclose(alike.values, x[:, 1::2], atol=1e-5)
    mixed = at_random(jax.numpy.asarray(x), np.zeros((1, 12)), None, Merging(6, None))
    assert np.max(np.abs(np.sort(mixed.values, axis=1) - np.sort(x[:, 1::2], axis=1))) > 0.1


def test_the_table_has_a_row_a_schedule():
    seeds = [
        {way: {"none": (0.5, 0.4), "4,2": (r1 + seed, 0.1)} for way, r1 in
         (("saliency", 0.3), ("similarity", 0.2), ("random", 0.1))}
        for seed in (0.0, 0.1)
    ]  # fmt: skip
    table = table_of(seeds, {"none": (0.0123, 0.0), "4,2": (0.008, 0.35)})
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    assert rows[0] == ["merge", "GMACs", "saved", "saliency", "similarity", "random"]
    assert rows[2] == ["none", "0.0123", "0%", "50.0 (50.0, 50.0)", "", ""]
    assert rows[3][2:] == ["35%", "35.0 (30.0, 40.0)", "25.0 (20.0, 30.0)", "15.0 (10.0, 20.0)"]
