"""Official TSM and TEA weights, plain and frame flexible <-> `Tsm` and `Tea`.

Source: names and shapes of BeSpontaneous/FFN-pytorch, 2D_Network, and of the ImageNet networks that
these start from: torchvision's ResNet and res2net50_26w_4s.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from fluxjax.convert import label_sets, shapes
from fluxjax.convert.ffn_2d_rows import BASE, HEADS, blocks_of, rows_of
from fluxjax.convert.ffn_rows import check_key, frames_for, labels_in, with_fresh
from fluxjax.convert.mapping import Row, to_variables
from fluxjax.convert.untold import check_fields
from fluxjax.models.frame_flexible.conversion import spread_branches
from fluxjax.models.frame_flexible.resnet import FrameResNet
from fluxjax.models.frame_flexible.tea import Tea
from fluxjax.models.frame_flexible.tsm import Tsm

TABLES = {Tsm: rows_of, Tea: rows_of}
_INFERRED = ("layers", "widths", "stem", "bottleneck")


def recognises(names: Iterable[str]) -> bool:
    """Whether names of a state dict are of these networks."""
    return any(name.removeprefix(BASE).startswith("layer1.0.conv1.") for name in names)


def load(
    state: Mapping[str, np.ndarray],
    source: str | os.PathLike | None = None,
    *,
    frames: Sequence[int] | None = None,
    num_classes: int | None = None,
    label_map: Sequence[int] | None = None,
    head_key: jax.Array | None = None,
    dropout: float | None = None,
    adapters: bool | None = None,
    **fields: Any,
) -> tuple[FrameResNet, dict[str, Any]]:
    """Builds the TSM or TEA that a state dict belongs to, and its variables.

    Args:
      state: torch name -> array, see `fluxjax.convert.states.state_of`.
      source: not used, names and shapes tell all.
      frames: frame number of each branch; default (4, 8, 16), and 16 for a plain network. Several
        with a plain network: every branch gets its norms, adapters are drawn (needs head_key).
      num_classes: cut the classifier to another label set, or with `head_key` draw a new one.
      label_map: the checkpoint's row of each class.
      head_key: draws a new classifier, and what else the checkpoint lacks.
      dropout: before the classifier; default 0.5, or 0 where its name says that there was none.
      adapters: weight alteration of branches made from a plain network; default: the class's.
      **fields: other fields of the model, such as dtype or shift.

    Raises:
      WeightsError: listing missing, unexpected and misshaped names.
      ValueError: on a keyword that is needed, unknown, or contradicts the weights.
    """
    kind = Tea if any(".convs." in name for name in state) else Tsm
    check_fields(load, kind, fields, _INFERRED)
    official = any(name.startswith((BASE, "new_fc.")) for name in state)
    if not official:
        state = {BASE + name: value for name, value in state.items()}
    labels = labels_in(state)
    frames = frames_for(labels, frames, (4, 8, 16), 16)
    spread = not labels and len(frames) > 1
    if kind is Tea and not any(".me." in name for name in state):
        check_key(head_key, "TEA from a Res2Net without motion excitation")
    if spread:
        check_key(head_key, f"frames={frames} of a plain checkpoint")
    head = next((name for name in HEADS if f"{name}.weight" in state), HEADS[0])
    if dropout is None:
        dropout = 0.0 if official and head == HEADS[1] else 0.5
    names = [f"{name}.{part}" for name in HEADS for part in ("weight", "bias")]
    state, num_classes = label_sets.heads_for(state, names, num_classes, label_map, head_key)
    stored = any(".adaconv_" in name for name in state)
    adapters = stored if labels else kind.adapters if adapters is None else adapters
    model = kind(
        num_classes=num_classes, frames=frames[-1:] if spread else frames, adapters=adapters,
        dropout=dropout, **_sizes(state, kind), **fields,
    )  # fmt: skip
    rows, rng = rows_of(model, labels, head), None
    if head_key is not None:
        rng = np.random.default_rng(np.asarray(jax.random.key_data(head_key)))
        state = with_fresh(state, _absent(rows, head, official), rng)
    variables = to_variables(state, rows, f"a {kind.__name__} of {len(labels) or 1} branch(es)")
    return _spread(model, variables, frames, rng) if spread else (model, variables)


def _spread(
    model: FrameResNet,
    variables: Mapping[str, Any],
    frames: tuple[int, ...],
    rng: np.random.Generator,
) -> tuple[FrameResNet, dict[str, Any]]:
    """The plain network as one with a branch for each of `frames`."""
    model = model.clone(frames=frames)
    blocks = {b.path: b.width_in for b in blocks_of(model)} if model.alters else {}
    return model, spread_branches(variables, len(frames), blocks, rng)


def _sizes(state: Mapping[str, Any], kind: type[FrameResNet]) -> dict[str, Any]:
    """Fields that shapes tell."""
    what, base = f"a {kind.__name__}", re.escape(BASE)
    sizes = {"stem": shapes.infer(state, what, (base + r"conv1\.weight", 0))}
    stages = range(1, shapes.count(state, base + r"layer(\d+)\."))
    sizes["layers"] = tuple(shapes.count(state, rf"{base}layer{i}\.(\d+)\.") for i in stages)
    bottleneck = any(name.startswith(BASE + "layer1.0.conv3.") for name in state)
    if kind is Tsm:
        sizes["bottleneck"] = bottleneck
    last, times = ("conv3", 4) if bottleneck else ("conv2", 1)
    widths = (
        shapes.infer(state, what, (rf"{base}layer{i}\.\d+\.{last}\.weight", 0)) for i in stages
    )
    return sizes | {"widths": tuple(width // times for width in widths)}


def _absent(rows: Sequence[Row], head: str, official: bool) -> list[Row]:
    """Rows that a checkpoint may lack: the classifier, and what ImageNet's Res2Net knows not of."""
    return [
        row for row in rows
        if row.name.startswith(head + ".")
        or not official and (".me." in row.name or ".shifts." in row.name)
    ]  # fmt: skip
