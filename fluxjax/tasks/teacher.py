"""The teacher of a distillation: which model it is, and its weights, which nothing changes."""

import hashlib
import pathlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from fluxjax.checkpoints import manifest
from fluxjax.checkpoints.inference import load, model_folder, read_architecture
from fluxjax.models import create_model
from fluxjax.tasks.base import Constants

COLLECTION = "teacher"  # its parameters among the task's variables
_SIZES = (
    "width", "depth", "num_heads", "grid", "pooled", "pool_heads", "embedding", "patch", "gelu",
)  # fmt: skip


def teacher_model(config: ConfigDict) -> nn.Module:
    """The model that `config.distill` names, without head, computing in `teacher_dtype`.

    That of `config.pretrain` where the teacher is trained first, and is not there yet.

    Nothing of it is random. (The official distillation leaves its video teacher in training mode,
    with stochastic depth.) A teacher that is there is hashed, and its hash is put into the config.

    Raises:
      FileNotFoundError: if there is no such folder.
      ValueError: if it cannot teach, or is not the one of `teacher_hash`.
    """
    own = config.distill
    if own.teacher is None and comes_first(config):
        model = headless_model(config.pretrain)
    elif own.teacher is None:
        model = create_model(own.teacher_model, None)  # CLIP teaches what it projects
    else:
        model = read_architecture(model_folder(own.teacher)).model
        note_hash(own)
    if not hasattr(model, "teach"):
        raise ValueError(
            f"a {type(model).__name__} cannot teach; name an InternVideo2 or a CLIP image encoder"
        )
    if hasattr(model, "embedding") and (model.embedding is None or model.num_classes is not None):
        raise ValueError(
            f"config.distill.teacher={own.teacher!r} has no projection of CLIP, which its features "
            "pass; convert the encoder with it"
        )
    still = {"drop_path": 0.0} if hasattr(model, "drop_path") else {}
    return model.clone(num_classes=None, dtype=jnp.dtype(own.teacher_dtype), **still)


def comes_first(config: ConfigDict) -> bool:
    """Whether `config.pretrain` trains the teacher."""
    return config.pretrain is not None and config.pretrain_for == "distill.teacher"


def headless_model(config: ConfigDict, **given: Any) -> nn.Module:
    """The config's model without head; fields that are None are as the named size has them.

    Args:
      config: uses `model`.
      **given: fields that go before those of the named size, and behind those of the config.
    """
    fields = {key: value for key, value in config.model.to_dict().items() if value is not None}
    name, dtype = fields.pop("name"), jnp.dtype(fields.pop("dtype"))
    return create_model(name, 0, dtype=dtype, **(given | fields))


def teacher_constants(own: ConfigDict, model: nn.Module, section: str = "distill") -> Constants:
    """The teacher's parameters: their shapes, and how they are read.

    Args:
      own: `config.distill`, or of another task `config.<section>` with the keys teacher,
        teacher_hash and teacher_dtype.
      model: see `teacher_model`.
      section: what messages call it.
    """
    video = jnp.zeros((1, 2, 2 * model.patch, 2 * model.patch, 3), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), video)["params"]
    dtype = jnp.dtype(own.teacher_dtype)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, dtype), shapes)
    return Constants({COLLECTION: shapes}, lambda: {COLLECTION: _read(own, model, shapes, section)})


def note_hash(own: ConfigDict, section: str = "distill") -> None:
    """Puts the teacher's hash into `config.<section>.teacher_hash`.

    Raises:
      ValueError: if another one is there.
    """
    text = (pathlib.Path(model_folder(own.teacher)) / manifest.MANIFEST).read_bytes()
    found = hashlib.sha256(text).hexdigest()  # the manifest has that of every file
    if own.teacher_hash not in (None, found):
        raise ValueError(
            f"config.{section}.teacher={own.teacher!r} is another model than this run began with: "
            f"its sha256 is {found}, config.{section}.teacher_hash={own.teacher_hash}"
        )
    own.teacher_hash = found


def _read(own: ConfigDict, model: nn.Module, shapes: Any, section: str) -> Any:
    """Its parameters as `shapes` says; heads are left out.

    Raises:
      ValueError: if there is no teacher, or one of another size.
    """
    if own.teacher is None:
        raise ValueError(
            f"config.{section}.teacher=None must name the teacher's run or inference checkpoint; "
            "python -m fluxjax.convert makes one of released weights"
        )
    note_hash(own, section)
    stored, variables = load(model_folder(own.teacher))
    given = variables["params"]
    differing = [
        f"{name}={getattr(stored, name)!r} not {getattr(model, name)!r}"
        f"{name}={getattr(stored, name, None)!r} not {getattr(model, name, None)!r}"
        for name in _SIZES
        if getattr(stored, name, None) != getattr(model, name, None)
    ]
    if type(stored) is not type(model) or differing:
        raise ValueError(
            f"config.{section}.teacher={own.teacher!r} is a {type(stored).__name__}, with "
            f"{', '.join(differing) or 'the same sizes'}, where this run was made for a "
            f"{type(model).__name__}; use another --workdir"
        )
    return _taken(given, shapes)


def _taken(given: Any, shapes: Any) -> Any:
    """Those of nested parameters that `shapes` has, in its dtypes."""
    return {
        name: _taken(given[name], wanted)
        if isinstance(wanted, dict)
        else np.asarray(given[name]).astype(wanted.dtype)
        for name, wanted in shapes.items()
    }
