"""Trains the toy sixth system: --config tests/sixth_system/config.py."""

from fluxjax.config.keys import base_config, import_modules

SYSTEM = "tests.sixth_system"


def get_config():
    import_modules((SYSTEM,))
    config = base_config("two_clips_ti", task="match")
    config.imports = (SYSTEM,)
    config.total_steps, config.batch_size, config.log_every = 3, 8, 1
    config.grids.resolutions = (28,)
    config.eval.grids, config.eval.batch_size = ("2x28",), 8
    config.optim.warmup_steps, config.optim.lr = 0, 0.1
    config.data.flip = False
    return config
