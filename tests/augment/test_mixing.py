"""Mixup and cutmix against the reference (fixture v12), and the statistics of their draws."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluxjax.augment import mixing
from fluxjax.tokens.tokens import Tokens, pack, unpatchify

_FIXTURE = Path(__file__).parents[1] / "golden" / "fluxvit" / "v12_mixup.npz"
GRID = jnp.array([4, 8, 6], jnp.int32)  # 112 x 84 pixels


@pytest.fixture(scope="module")
def case():
    with np.load(_FIXTURE, allow_pickle=False) as arrays:
        return dict(arrays)


def _recorded(run):
    box = run["bbox_yl_yh_xl_xh"] or [0, 0, 0, 0]
    return mixing.Mixing(
        jnp.float32(run["lam_used"]), jnp.array(box, jnp.int32), jnp.array(run["use_cutmix"])
    )


@pytest.mark.parametrize("index", range(3))
@pytest.mark.parametrize("packed", [True, False], ids=["packed", "dense"])
def test_mixing_matches_the_reference(case, index, packed):
    run = json.loads(str(case["meta"]))["runs"][index]
    name = run["name"]
    clips = case[f"input/{name}_x"].transpose(0, 2, 3, 4, 1)  # [B, T, H, W, 3]
    grid = (clips.shape[1], clips.shape[2] // 14, clips.shape[3] // 14)
    count = int(np.prod(grid))
    tokens = pack(clips, max_tokens=count + 5) if packed else Tokens.from_video(jnp.asarray(clips))
    apply = jax.jit(mixing.apply, static_argnums=3)
    mixed, targets = apply(tokens, case[f"input/{name}_labels"], _recorded(run), run["num_classes"])
    video = unpatchify(mixed.values[:, :count], grid)
    expected = case[f"output/{name}_x"].transpose(0, 2, 3, 4, 1)
    np.testing.assert_allclose(video, expected, atol=1e-6)
    np.testing.assert_allclose(targets, case[f"output/{name}_target"], atol=1e-6)
    np.testing.assert_array_equal(mixed.valid, tokens.valid)
    assert mixed.static_grid == tokens.static_grid


@pytest.fixture(scope="module")
def draws():
    """2000 draws with both kinds in use and 80 % of batches mixed."""
    return _draw_many(prob=0.8)


def _draw_many(**options):
    keys = jax.random.split(jax.random.key(0), 2000)
    return jax.device_get(jax.vmap(lambda key: mixing.draw(key, GRID, 14, **options))(keys))


def test_draws_follow_the_probabilities(draws):
    unmixed = (draws.lam == 1) & ~draws.use_cutmix
    assert np.mean(unmixed) == pytest.approx(0.2, abs=0.03)
    assert np.mean(draws.use_cutmix) == pytest.approx(0.4, abs=0.04)
    lam = draws.lam[~draws.use_cutmix & ~unmixed]
    # Beta(a, a) has mean 1/2 and variance 1 / (4 (2 a + 1)).
    assert lam.mean() == pytest.approx(0.5, abs=0.04)
    assert lam.var() == pytest.approx(1 / (4 * 2.6), abs=0.012)


def test_cutmix_labels_follow_the_pasted_area(draws):
    yl, yh, xl, xh = draws.box[draws.use_cutmix].T
    assert min(yl.min(), xl.min()) == 0 and yh.max() == 112 and xh.max() == 84
    assert (yl <= yh).all() and (xl <= xh).all()
    area = (yh - yl) * (xh - xl) / (112 * 84)
    np.testing.assert_allclose(draws.lam[draws.use_cutmix], 1 - area, atol=1e-6)
    uncut = (yl > 0) & (yh < 112) & (xl > 0) & (xh < 84) & (yh - yl > 20)
    aspect = (yh - yl)[uncut] / (xh - xl)[uncut]
    np.testing.assert_allclose(aspect, 112 / 84, rtol=0.15)  # whole pixels, even sides
    # Half of the frame, of which the borders cut 0.18 off and even sides another 0.01.
    assert area.mean() == pytest.approx(0.31, abs=0.03)


@pytest.mark.parametrize(
    ("alphas", "use_cutmix", "mean"),
    [({"mixup_alpha": 0.0}, True, 0.69), ({"cutmix_alpha": 0.0}, False, 0.5)],
)
def test_an_alpha_of_zero_turns_a_kind_off(alphas, use_cutmix, mean):
    drawn = _draw_many(**alphas)
    assert (drawn.use_cutmix == use_cutmix).all()
    assert drawn.lam.mean() == pytest.approx(mean, abs=0.03)


def _tokens(batch=4, dtype=np.float32):
    video = np.random.default_rng(2).normal(size=(batch, 2, 28, 42, 3))
    return Tokens.from_video(jnp.asarray(video, dtype))


def test_mix_draws_with_the_key_and_applies():
    tokens, labels = _tokens(), jnp.array([3, 1, 4, 0])
    options = {"mixup_alpha": 0.3, "cutmix_alpha": 0.4, "prob": 0.9, "switch_prob": 0.6}

    @jax.jit
    def both(key):
        drawn = mixing.draw(key, tokens.grid[0], 14, **options)
        apart = mixing.apply(tokens, labels, drawn, 5, smoothing=0.2)
        return apart, mixing.mix(tokens, labels, key, 5, smoothing=0.2, **options)

    (apart, targets_apart), (together, targets) = both(jax.random.key(8))
    np.testing.assert_array_equal(apart.values, together.values)
    np.testing.assert_array_equal(targets_apart, targets)
    np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)
    _, (again, _) = both(jax.random.key(8))
    _, (other, _) = both(jax.random.key(9))
    np.testing.assert_array_equal(again.values, together.values)
    assert np.abs(other.values - together.values).max() > 0.1


def test_unmixed_batches_are_untouched():
    tokens, labels = _tokens(), jnp.array([3, 1, 4, 0])
    identity = mixing.Mixing(jnp.float32(1), jnp.array([0, 9, 0, 9]), jnp.array(False))
    mixed, targets = jax.jit(mixing.apply, static_argnums=3)(tokens, labels, identity, 5)
    np.testing.assert_array_equal(mixed.values, tokens.values)
    np.testing.assert_allclose(targets, mixing.smooth_one_hot(labels, 5), atol=1e-7)


def test_dtype_is_kept():
    half = mixing.Mixing(jnp.float32(0.5), jnp.zeros(4, jnp.int32), jnp.array(False))
    apply = jax.jit(mixing.apply, static_argnums=3)
    mixed, targets = apply(_tokens(2, jnp.bfloat16), jnp.array([0, 1]), half, 2)
    assert mixed.values.dtype == jnp.bfloat16 and targets.dtype == jnp.float32


def test_smooth_one_hot():
    targets = mixing.smooth_one_hot(jnp.array([2]), 4, 0.2)
    np.testing.assert_allclose(targets, [[0.05, 0.05, 0.85, 0.05]], atol=1e-7)


def test_what_cannot_be_mixed_is_refused():
    def mix(tokens, **options):
        labels = jnp.arange(tokens.values.shape[0])
        jax.eval_shape(lambda key: mixing.mix(tokens, labels, key, 4, **options), jax.random.key(0))

    with pytest.raises(ValueError, match="even, got 3"):
        mix(_tokens(3))
    with pytest.raises(ValueError, match="uint8"):
        mix(_tokens().replace(values=jnp.zeros((4, 12, 588), jnp.uint8)))
    with pytest.raises(ValueError, match="384"):
        mix(_tokens().replace(values=jnp.zeros((4, 12, 384))))
    for wrong in ({"mixup_alpha": 0.0, "cutmix_alpha": 0.0}, {"mixup_alpha": -1.0}):
        with pytest.raises(ValueError, match="alpha"):
            mix(_tokens(), **wrong)
    with pytest.raises(ValueError, match="switch_prob=1.5"):
        mix(_tokens(), switch_prob=1.5)
    with pytest.raises(ValueError, match="smoothing"):
        mix(_tokens(), smoothing=1.0)
