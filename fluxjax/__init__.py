"""Budget-flexible video models in JAX/Flax.

model = fluxjax.create_model("fluxvit_s14", num_classes=400)
variables = model.init(jax.random.key(0), video)
logits = model.apply(variables, video, budget=1024)
"""

from fluxjax.checkpoints.inference import load, save
from fluxjax.checkpoints.usage import Usage
from fluxjax.convert.initialize import init_fluxvit_from_internvideo2
from fluxjax.convert.load import load_torch, to_torch
from fluxjax.models import list_models
from fluxjax.pretrained.models import create_model
from fluxjax.tokens.tokens import Tokens, pack
from fluxjax.version import __version__
from fluxjax.weight_files.errors import WeightsError

__all__ = [
    "Tokens",
    "Usage",
    "WeightsError",
    "__version__",
    "create_model",
    "init_fluxvit_from_internvideo2",
    "list_models",
    "load",
    "load_torch",
    "pack",
    "save",
    "to_torch",
]
