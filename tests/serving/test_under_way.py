"""Looking at a run that has not ended: the stored one stopped after step 4."""

import pathlib
import shutil
import tarfile

import jax
import numpy as np
import pytest

from fluxjax.checkpoints.training import Checkpoints
from fluxjax.config import stored
from fluxjax.serving.checkpoint import open_checkpoint
from fluxjax.tasks import create_task
from fluxjax.training.loop import Trainer
from fluxjax.training.mesh import make_mesh

STORED = pathlib.Path(__file__).parents[1] / "checkpoints" / "data" / "released_runs.tar.xz"


@pytest.fixture
def stopped(tmp_path):
    with tarfile.open(STORED) as runs:
        runs.extractall(tmp_path, filter="data")
    return tmp_path / "stopped"


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_its_newest_checkpoint_is_the_model_and_nothing_changes(stopped, caplog):
    before = contents(stopped)
    with caplog.at_level("INFO", "fluxjax"):
        found = open_checkpoint(stopped)
    assert found.step == 4 and found.run == stopped and "after step 4" in caplog.text
    assert found.model.num_classes == 4 and str(found.default_grid()) == "4x14"
    assert contents(stopped) == before
    config = stored.get_config(str(stopped / "config.json"))
    trainer = Trainer.create(create_task(config), make_mesh(config.mesh))
    with Checkpoints(stopped, 1) as checkpoints:
        state = checkpoints.restore_newest(trainer.abstract_state)
    expected = state.eval_variables()
    jax.tree.map(np.testing.assert_array_equal, found.variables, jax.device_get(expected))


def test_a_damaged_checkpoint_gives_way_to_the_one_before(stopped, caplog):
    shutil.copytree(stopped / "checkpoints" / "4", stopped / "checkpoints" / "5")
    (manifest,) = (stopped / "checkpoints" / "5").glob("manifest.json")
    manifest.write_text(manifest.read_text().replace('"size": ', '"size": 1'))
    assert open_checkpoint(stopped).step == 4
    assert "trying an older checkpoint" in caplog.text


def test_without_a_checkpoint_it_says_when_there_will_be_one(stopped):
    shutil.rmtree(stopped / "checkpoints")
    with pytest.raises(FileNotFoundError, match="has no whole checkpoint yet.*every_steps"):
        open_checkpoint(stopped)
