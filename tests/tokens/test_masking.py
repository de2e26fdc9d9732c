import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluxjax.tokens.masking import MASKS, draw_mask, hidden_per_frame, hidden_tokens
from fluxjax.tokens.tokens import Tokens, pack

GRIDS = ((8, 7, 5), (4, 3, 6), (1, 10, 2), (6, 2, 5))
PIXELS = np.random.default_rng(0)


def clips():
    return [PIXELS.integers(0, 256, (t, h, w, 3), np.uint8) for t, h, w in GRIDS]


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


TOKENS = pack(clips(), 300, patch=1)
draw = jax.jit(draw_mask, static_argnums=(0, 3))


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("ratio", [0.5, 0.9])
def test_as_many_are_hidden_as_the_official_code_hides(kind, ratio):
    mask = draw(kind, TOKENS, keys(len(GRIDS)), ratio)
    for b, (t, h, w) in enumerate(GRIDS):
        wanted = int(ratio * t * h * w) if kind == "random" else t * int(ratio * h * w)
        assert int(mask[b].sum()) == wanted == hidden_tokens((t, h, w), kind, ratio)
        assert not np.any(mask[b, t * h * w :]), "padding is no token"


def test_the_published_numbers():
    assert hidden_per_frame(14 * 14, 0.9) == 176
    assert hidden_tokens((8, 14, 14), "tube", 0.9) == 1408
    with pytest.raises(ValueError, match="hides 0 of 4 places"):
        hidden_per_frame(4, 0.2)
    with pytest.raises(ValueError, match="unknown mask 'tubes'"):
        hidden_tokens((8, 14, 14), "tubes", 0.9)


def test_tubes_are_the_same_in_every_frame():
    mask = draw("tube", TOKENS, keys(len(GRIDS)), 0.5)
    for b, (t, h, w) in enumerate(GRIDS):
        frames = np.asarray(mask[b, : t * h * w]).reshape(t, h * w)
        assert np.all(frames == frames[0])


def test_places_are_hidden_equally_often():
    tokens = Tokens.from_video(jnp.zeros((600, 2, 3, 4, 3)), 1)
    for kind in ("tube", "random"):
        share = np.mean(draw(kind, tokens, keys(600), 0.5), axis=0)
        assert np.all(np.abs(share - 0.5) < 0.1), kind


@pytest.mark.parametrize("kind", MASKS)
def test_a_mask_depends_on_its_clip_and_key_only(kind):
    mask = draw(kind, TOKENS, keys(len(GRIDS)), 0.5)
    order = jnp.array([2, 0, 3])
    part = jax.tree.map(lambda x: x[order], TOKENS)
    np.testing.assert_array_equal(draw(kind, part, keys(len(GRIDS))[order], 0.5), mask[order])
    other = draw(kind, TOKENS, keys(len(GRIDS), seed=1), 0.5)
    assert np.any(np.asarray(mask) != np.asarray(other), axis=1).all()


def test_what_moves_is_shown():
    video = np.zeros((1, 8, 6, 6, 3), np.uint8)
    for t in range(8):
        video[0, t, t % 6, 2] = 255  # a point that walks down
    mask = draw("group_dynamic", Tokens.from_video(video, 1), keys(1), 0.9)
    shown = ~np.asarray(mask).reshape(8, 6, 6)
    # 4 of 36 places are shown in each frame, as many in each group of two frames.
    assert shown.reshape(4, -1).sum(axis=1).tolist() == [8, 8, 8, 8]
    for first in range(0, 8, 2):  # change is what differs within a group
        moves = np.any(video[0, first] != video[0, first + 1], axis=-1)
        assert np.all(shown[first : first + 2, moves])
