"""Budget-flexible video models in JAX/Flax.

predictor = fluxjax.Predictor.from_checkpoint("runs/mine", budget=24)
predictor.predict("clip.mp4").top(5)

model = fluxjax.create_model("fluxvit_s14", num_classes=400)
variables = model.init(jax.random.key(0), video)
logits = model.apply(variables, video, budget=1024)
"""

from typing import TYPE_CHECKING, Any

from fluxjax import own_pipelines  # first: before anything imports data_pipelines
from fluxjax.checkpoints.inference import Architecture, load, read_architecture, save
from fluxjax.checkpoints.usage import Usage
from fluxjax.convert.initialize import init_fluxvit_from_internvideo2
from fluxjax.convert.load import load_torch, to_torch
from fluxjax.models import list_models
from fluxjax.pretrained.models import create_model
from fluxjax.tokens.tokens import Tokens, pack
from fluxjax.version import __version__
from fluxjax.weight_files.errors import WeightsError

if TYPE_CHECKING:
    from data_pipelines.text.kinds import tokenizer
    from fluxjax.predictor import Predictor

own_pipelines.load_for_commands()

__all__ = [
    "Architecture",
    "Predictor",
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
    "read_architecture",
    "save",
    "to_torch",
    "tokenizer",
]


def __getattr__(name: str) -> Any:
    """`Predictor` and `tokenizer` only once they are asked for: models do without what they need.

    The one reads videos, the other captions.
    """
    if name == "Predictor":
        from fluxjax.predictor import Predictor

        return Predictor
    if name == "tokenizer":
        from data_pipelines.text.kinds import tokenizer

        return tokenizer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """With the names that are not imported yet."""
    return sorted({*globals(), *__all__})
