import pytest

from fluxjax.config.keys import base_config
from fluxjax.config.names import SYNONYMS, all_keys, unknown_key


@pytest.mark.parametrize(
    ("key", "answer"),
    [
        ("lr", "did you mean config.optim.lr?"),
        ("warmup_steps", "did you mean config.optim.warmup_steps?"),
        ("every_steps", "did you mean config.checkpoint.every_steps or config.eval.every_steps?"),
        ("optim.lrr", "did you mean config.optim.lr?"),
        ("optim.batch_size", "did you mean config.batch_size or config.eval.batch_size?"),
        ("data.trian", "did you mean config.data.train?"),
        ("model.widht", "did you mean config.model.width?"),
        ("learning_rate", "here it is config.optim.lr"),
        ("optim.wd", "here it is config.optim.weight_decay"),
        ("steps", "here it is config.total_steps"),
        ("num_epochs", "here it is config.epochs"),
        ("grids.num_frames", "here it is config.grids.frames"),
        ("accumulate", "did you mean config.optim.accumulate_steps?"),
        ("optim.zzz", "known: "),
    ],
)
def test_an_unknown_key_is_answered_with_the_one_that_was_meant(key, answer):
    message = unknown_key(key, base_config())
    assert message.startswith(f"unknown config key config.{key}; ") and answer in message
    assert "\n" not in message


def test_synonyms_lead_to_keys():
    keys = all_keys(base_config())
    for name, target in SYNONYMS.items():
        assert target.partition(",")[0] in keys, name
