"""The recipes of Flux-CLIP (table 16), K710 and COIN (table 15), and UMT's pre-training."""

import pytest

from fluxjax.models.registry import create_model
from fluxjax.tasks import create_task
from fluxjax.training.schedules import learning_rate
from tests.config.test_configs import load


def test_flux_clip_is_the_papers():
    for size, width in (("s", 384), ("b", 768)):
        _, config = load(f"flux_clip_{size}", None)
        task = create_task(config)
        assert task.model.width == width and task.budgets == (2048, 1536, 1024)
        assert all(2048 <= grid.tokens() <= 4096 for grid in task.grids)
        schedule, epoch = learning_rate(config), 25_680_000 / 4096
        assert config.total_steps == int(3 * epoch) and config.batch_size == 4096
        assert config.optim.warmup_steps == int(0.6 * epoch)
        assert float(schedule(config.optim.warmup_steps)) == pytest.approx(4e-4, rel=1e-4)
        assert (config.optim.b1, config.optim.b2) == (0.9, 0.98)
        assert config.optim.weight_decay == 0.02 and config.data.crop_scale == (0.5, 1.0)
        _, second = load(f"flux_clip_{size}", "second")
        assert second.batch_size == (2048 if size == "b" else 4096)
        assert second.total_steps == 2_500_000 // second.batch_size
        assert float(learning_rate(second)(0)) == pytest.approx(2e-5, rel=1e-4)


@pytest.mark.parametrize(("size", "epochs", "coin"), [("s", 35, 40), ("b", 20, 25)])
def test_k710_and_coin_are_the_papers(size, epochs, coin):
    _, config = load(f"fluxvit_{size}", "k710")
    epoch = 658_000 // 1024
    assert config.batch_size // config.data.repeats == 1024 and config.num_classes == 710
    assert (config.total_steps, config.optim.warmup_steps) == (epochs * epoch, 5 * epoch)
    assert config.optim.lr == 2e-4 and config.budgets == (3072, 2048, 1024)
    _, config = load(f"fluxvit_{size}", "coin")
    epoch = 9_030 // 512
    assert config.batch_size // config.data.repeats == 512 and config.num_classes == 180
    assert (config.total_steps, config.optim.warmup_steps) == (coin * epoch, 5 * epoch)
    assert config.optim.lr == 5e-4 and config.model.drop_path == 0.1


@pytest.mark.parametrize(("size", "side", "drop_path"), [("b16", 224, 0.1), ("l16", 196, 0.2)])
def test_unmasked_teaching_is_the_official_scripts(size, side, drop_path):
    _, config = load("umt_pretrain", size)
    task = create_task(config)
    depth = task.model.depth
    assert task.taught_layers == tuple(range(depth - 6, depth)) and task.model.taught_layers == 6
    assert task.model.taught_width == task.teacher.embedding
    (grid,) = task.grids
    rows = grid.resolution // task.patch
    assert rows * task.teacher.patch == side and task.budgets == (8 * (196 - int(196 * 0.8)),)
    schedule, epoch = learning_rate(config), 658_000 // 2048
    assert float(schedule(40 * epoch)) == pytest.approx(1.2e-3, rel=1e-4)
    assert (config.total_steps, float(schedule(0))) == (201 * epoch, 0.0)
    assert (config.optim.b2, config.optim.eps, config.optim.clip_norm) == (0.95, 1e-8, None)
    assert task.model.drop_path == drop_path
    assert create_model(config.distill.teacher_model, None).num_heads == (16 if side == 196 else 12)
