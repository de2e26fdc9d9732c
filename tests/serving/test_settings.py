import functools

import jax
import numpy as np
import pytest

import fluxjax
from fluxjax.budgets.sweep import sweep_settings
from fluxjax.serving.drawing import DIMMED, OUTLINE, group_colour, lit, strip
from fluxjax.serving.programs import Programs
from fluxjax.serving.settings import SELECT_AND_MERGE as BOTH
from fluxjax.serving.settings import (
    Setting,
    UnmergeableError,
    forward,
    make_setting,
    merge_schedule,
    methods_of,
    selected,
)
from fluxjax.tokens.grids import Grid
from tests import tiny
from tests.tasks.test_classify import task_and_variables

GRID = Grid(4, 28)


@functools.cache
def model():
    return task_and_variables()[0].model


def clips(count=2, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 4, 28, 28, 3), np.uint8)


def test_a_budget_takes_the_nearest_head_and_never_more_than_all_tokens():
    assert tiny.get_config().budgets == (8, 4)
    assert make_setting(model(), GRID, 8) == Setting(GRID, 8, "group_dynamic", 0)
    assert make_setting(model(), GRID, 5, "uniform") == Setting(GRID, 5, "uniform", 1)
    everything = Setting(GRID, 16, "none", 0)
    for budget, method in ((None, "random"), (16, "uniform"), (99, "group_dynamic"), (5, "none")):
        assert make_setting(model(), GRID, budget, method) == everything
    assert make_setting(model(), Grid(4, 14), 8) == Setting(Grid(4, 14), 4, "none", 1)


@pytest.mark.parametrize(
    ("grid", "budget", "method", "message"),
    [
        (Grid(4, 30), 8, "none", "30 pixels are not a multiple of .* 14; e.g. 4x28"),
        (Grid(4, 10), 8, "none", "e.g. 4x14"),
        (GRID, 0, "random", r"budget 0 is too small for 4x28 \(random\): at least 2"),
        (GRID, 8, "motion", "unknown method 'motion'"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_run(grid, budget, method, message):
    with pytest.raises(ValueError, match=message):
        make_setting(model(), grid, budget, method)


def test_models_that_predict_nothing_are_refused():
    other = fluxjax.create_model("internvideo2_s14", 0)
    with pytest.raises(ValueError, match="a InternVideo2 without classes .*; train a FluxViT or"):
        make_setting(other, GRID)
    other = fluxjax.create_model("videomae_ti8_pretrain", 0)
    with pytest.raises(ValueError, match=r"nothing; train a VideoMae from it \(config"):
        make_setting(other, GRID)
    with pytest.raises(ValueError, match="Avion without .*; train a classifier from it"):
        make_setting(fluxjax.create_model("avion_ti8", 0), Grid(4, 16))


@pytest.mark.parametrize("name", ["avion_ti8", "internvideo2_ti14"])
def test_classifiers_without_budgets_take_all_tokens(name):
    other = fluxjax.create_model(name, 3, width=16, depth=1, num_heads=2)
    grid = Grid(2, 2 * other.patch)
    setting = make_setting(other, grid)
    assert setting == Setting(grid, 8, "none", 0) == make_setting(other, grid, 8)
    assert methods_of(other) == ("none",)
    with pytest.raises(ValueError, match="budget 4: a.* has no token budgets and takes all 8 of"):
        make_setting(other, grid, 4)
    (only,) = sweep_settings(other, [grid], [], methods_of(other))
    assert only == setting
    video = np.random.default_rng(0).integers(0, 256, (2, *grid[:1], *grid[1:] * 2, 3), np.uint8)
    variables = jax.jit(other.init)(jax.random.key(0), video)
    said = Programs(other, variables).predict(video[:, None], setting)
    logits, features = other.apply(variables, video, return_features=True)
    np.testing.assert_allclose(said.probabilities, jax.nn.softmax(logits), atol=1e-6)
    np.testing.assert_allclose(said.features, features, atol=1e-5)
    with pytest.raises(ValueError, match="drops no tokens"):
        Programs(other, variables).groups(video[0], setting)


def test_forward_is_the_model_at_the_setting():
    _, variables = task_and_variables()
    video, key = clips(), jax.random.key(5)

    @functools.partial(jax.jit, static_argnums=(0, 1))
    def run(setting, options):
        ours = forward(model(), variables, video, setting, key)
        return ours, model().apply(variables, video, head=0, **dict(options))

    found = {}
    for method, options in (
        ("none", {}),
        ("group_dynamic", {"budget": 8}),
        ("uniform", {"budget": 8, "selection": "uniform"}),
    ):
        ours, expected = run(make_setting(model(), GRID, 8, method), tuple(options.items()))
        np.testing.assert_array_equal(ours, expected)
        found[method] = np.asarray(ours)
    assert not np.allclose(found["uniform"], found["group_dynamic"], atol=1e-6)


@functools.cache
def programs():
    return Programs(model(), task_and_variables()[1])


@pytest.mark.parametrize("method", ["group_dynamic", "random", "uniform"])
def test_kept_tokens_are_as_many_as_the_budget_in_every_group(method):
    clip, setting = clips(1)[0], make_setting(model(), GRID, 8, method)
    groups = programs().groups(clip, setting)
    assert groups.shape == (4, 2, 2) and groups.dtype == np.int32
    assert sorted(groups[groups >= 0]) == list(range(8)), "each kept token stands for itself"
    assert (groups[:2] >= 0).sum() == (groups[2:] >= 0).sum() == 4
    np.testing.assert_array_equal(groups, programs().groups(clip, setting))


def test_kept_tokens_are_those_that_moved():
    clip = clips(1)[0]
    clip[1, :14, :14] = clip[0, :14, :14]  # no motion at this place
    groups = programs().groups(clip, make_setting(model(), GRID, 8))
    assert groups[0, 0, 0] == -1 and (groups >= 0).sum() == 8
    assert (programs().groups(clip, make_setting(model(), GRID)) >= 0).all()


def test_merge_schedules_reach_the_budget_in_few_blocks():
    deep = fluxjax.create_model("fluxvit_s14", 3)
    for grid, budget in ((Grid(8, 224), 512), (Grid(8, 224), 100), (Grid(6, 28), 23)):
        tokens = grid.tokens()
        schedule = merge_schedule(deep, make_setting(deep, grid, budget, "merge"))
        assert sum(schedule) == tokens - budget and list(schedule) == sorted(schedule)[::-1]
        for merged in schedule:
            assert merged <= tokens // 2
            tokens -= merged
    assert len(merge_schedule(deep, make_setting(deep, Grid(8, 224), 512, "merge"))) == 3
    assert len(merge_schedule(deep, make_setting(deep, Grid(8, 224), 100, "merge"))) == 5
    both = make_setting(deep, Grid(8, 224), 256, "group_dynamic+merge")
    assert selected(deep, both) == (512, "group_dynamic")
    assert sum(merge_schedule(deep, both)) == 256
    assert merge_schedule(deep, make_setting(deep, Grid(8, 224), 512)) == ()
    few = make_setting(model(), GRID, 9, "group_dynamic+merge")
    assert few == make_setting(model(), GRID, 9, "merge"), "18 of 16 tokens are all"
    with pytest.raises(UnmergeableError, match="16 tokens cannot be merged to 7 in 1 blocks"):
        make_setting(model(), GRID, 7, "merge")


@pytest.mark.slow
@pytest.mark.parametrize(("method", "budget", "entering"), [("merge", 9, 16), (BOTH, 5, 10)])
def test_merging_leaves_the_budget_and_says_who_went_where(method, budget, entering):
    setting = make_setting(model(), GRID, budget, method)
    assert setting.method == method
    groups = programs().groups(clips(1)[0], setting)
    inside = groups[groups >= 0]
    assert inside.size == entering
    assert len(np.unique(inside)) == budget, "as many groups as tokens are left"
    prediction = programs().predict(clips()[None], setting)
    kept, _ = selected(model(), setting) or (None, "")
    logits = jax.jit(
        lambda v, x: model().apply(v, x, kept, setting.head, merge=(entering - budget,))
    )(task_and_variables()[1], clips())  # fmt: skip
    expected = np.mean(jax.nn.softmax(logits), axis=0)
    np.testing.assert_allclose(prediction.probabilities[0], expected, rtol=1e-5)


def test_views_are_averaged_as_probabilities():
    setting = make_setting(model(), GRID, 8)
    both = programs().predict(clips()[None], setting)
    logits, features = jax.jit(
        lambda v, x: model().apply(v, x, 8, return_features=True)
    )(task_and_variables()[1], clips())  # fmt: skip
    np.testing.assert_allclose(
        both.probabilities[0], np.mean(jax.nn.softmax(logits), axis=0), rtol=1e-5
    )
    np.testing.assert_allclose(both.features[0], np.mean(features, axis=0), rtol=1e-4, atol=1e-6)


def test_lit_frames_keep_kept_tokens_and_dim_the_others():
    frames = np.full((2, 8, 8, 3), 200, np.uint8)
    frames[..., 2] = 100
    groups = np.full((2, 2, 2), -1)
    groups[0, 0, 1] = 7
    picture = lit(frames, groups)
    assert (picture[0, 1:3, 5:7] == frames[0, 1:3, 5:7]).all(), "a kept token has other pixels"
    assert (picture[0, 0, 4:] == OUTLINE).all() and (picture[0, :4, 4] == OUTLINE).all()
    dimmed = int((200 + 200 + 100) / 3 * DIMMED)
    assert (picture[0, 4:] == dimmed).all() and (picture[1] == dimmed).all()
    everything = np.arange(8).reshape(2, 2, 2)
    assert (lit(frames, everything) == frames).all(), "nothing was dropped or merged"
    with pytest.raises(ValueError, match="2 frames, but a selection of 1"):
        lit(frames, groups[:1])


def test_merged_tokens_are_tinted_by_group():
    frames = np.full((2, 8, 8, 3), 100, np.uint8)
    groups = np.arange(8).reshape(2, 2, 2)
    groups[0, 0, 0] = groups[1, 1, 1] = 3
    groups[0, 1, 0] = 6
    picture = lit(frames, groups).astype(int)
    third, sixth = ((0.55 * 100 + 0.45 * group_colour(n)).astype(int) for n in (3, 6))
    assert (picture[0, :4, :4] == third).all() and (picture[1, 4:, 4:] == third).all()
    assert (picture[0, 4:, :4] == sixth).all() and (picture[0, :4, 4:] == 100).all()
    assert np.abs(third - sixth).max() > 50, "two groups look alike"


def test_a_strip_holds_the_frames_in_order():
    frames = np.stack([np.full((4, 4, 3), value, np.uint8) for value in (0, 100)])
    row = strip(frames, gap=2)
    assert row.shape == (4, 10, 3)
    assert row[0, :, 0].tolist() == [0] * 4 + [255] * 2 + [100] * 4
