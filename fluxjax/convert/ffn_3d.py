"""Official SlowFast and UniFormer weights, plain and frame flexible <-> `SlowFast`, `UniFormer`.

Source: names and shapes of BeSpontaneous/FFN-pytorch, 3D_Network and Transformer_Network, and of
the Kinetics networks that these start from: facebookresearch/SlowFast, whose older files keep the
names of Caffe2, and Sense-X/UniFormer.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from fluxjax.convert import label_sets, shapes
from fluxjax.convert.ffn_3d_rows import adapted_blocks, rows_of
from fluxjax.convert.ffn_rows import check_key, frames_for, labels_in
from fluxjax.convert.mapping import to_variables
from fluxjax.convert.untold import check_fields
from fluxjax.models.frame_flexible.conversion import spread_branches
from fluxjax.models.frame_flexible.slowfast import SlowFast
from fluxjax.models.frame_flexible.slowfast_sizes import SLOW_KERNELS
from fluxjax.models.frame_flexible.uniformer import UniFormer
from fluxjax.models.frame_flexible.uniformer_blocks import ADAPTER_STD

TABLES = {SlowFast: rows_of, UniFormer: rows_of}
_INFERRED = ("layers", "widths", "width", "beta_inv", "mlp_ratio")
_RELEASED = {SlowFast: (16, 32, 64), UniFormer: (4, 8, 16)}
_HEADS = {SlowFast: "head.projection", UniFormer: "head"}
_HEAD_STD = {SlowFast: 0.01, UniFormer: 0.02}
_STEM = "s1.pathway0_stem."
# Caffe2's names: of the pathway's stem, of what fuses, of blocks; then their endings.
_CAFFE2 = (
    (r"(t_)?conv1_", lambda m: f"s1.pathway{int(bool(m[1]))}_stem.conv_"),
    (r"(t_)?res_conv1_bn_", lambda m: f"s1.pathway{int(bool(m[1]))}_stem.bn_"),
    (r"t_pool1_subsample_(bn_)?", lambda m: f"s1_fuse.{'bn_' if m[1] else 'conv_f2s_'}"),
    (
        r"t_res(\d)_\d+_branch2c_bn_subsample_(bn_)?",
        lambda m: f"s{m[1]}_fuse.{'bn_' if m[2] else 'conv_f2s_'}",
    ),
    (
        r"(t_)?res(\d)_(\d+)_branch(1|2)([abc]?)_",
        lambda m: (
            f"s{m[2]}.pathway{int(bool(m[1]))}_res{m[3]}.branch{m[4]}{'.' + m[5] if m[5] else ''}_"
        ),
    ),
    (r"pred_", lambda m: "head.projection_"),
)
_CAFFE2_ENDINGS = {
    "bn_s": "bn.weight", "bn_b": "bn.bias", "bn_rm": "bn.running_mean", "bn_riv": "bn.running_var",
    "_w": ".weight", "_b": ".bias",
}  # fmt: skip


def recognises(names: Iterable[str]) -> bool:
    """Whether names of a state dict are of these networks."""
    return any(name.startswith((_STEM, "patch_embed1.proj.", "t_res2_0_")) for name in names)


def load(
    state: Mapping[str, np.ndarray],
    source: str | os.PathLike | None = None,
    *,
    frames: Sequence[int] | None = None,
    num_classes: int | None = None,
    label_map: Sequence[int] | None = None,
    head_key: jax.Array | None = None,
    adapters: bool | None = None,
    **fields: Any,
) -> tuple[SlowFast | UniFormer, dict[str, Any]]:
    """Builds the SlowFast or UniFormer that a state dict belongs to, and its variables.

    Args:
      state: torch name -> array, see `fluxjax.convert.states.state_of`.
      source: the file that it comes from.
      frames: frame number of each branch; default (16, 32, 64) of SlowFast, (4, 8, 16) of
        UniFormer, of a plain network the last of these. Several with a plain network: every branch
        gets its norms, adapters are drawn (needs head_key).
      num_classes: cut the classifier to another label set, or with `head_key` draw a new one.
      label_map: the checkpoint's row of each class.
      head_key: draws a new classifier, and the adapters of branches made from a plain network.
      adapters: weight alteration of branches made from a plain network; default: the class's.
      **fields: other fields of the model, such as dtype, or what shapes do not tell: alpha of a
        SlowFast, head_dim and channel_order of a UniFormer.

    Raises:
      WeightsError: listing missing, unexpected and misshaped names.
      ValueError: on a keyword that is needed, unknown, or contradicts the weights.
    """
    del source  # all that is needed is in names and shapes
    if any(name.startswith("t_res2_0_") for name in state):
        state = _from_caffe2(state)
    kind = SlowFast if any(name.startswith(_STEM) for name in state) else UniFormer
    check_fields(load, kind, fields, _INFERRED)
    labels = labels_in(state)
    frames = frames_for(labels, frames, _RELEASED[kind], _RELEASED[kind][-1])
    spread = not labels and len(frames) > 1
    if spread:
        check_key(head_key, f"frames={frames} of a plain checkpoint")
    names = [f"{_HEADS[kind]}.{part}" for part in ("weight", "bias")]
    state, num_classes = label_sets.heads_for(state, names, num_classes, label_map, head_key)
    stored = any(".adaconv_" in name for name in state)
    adapters = stored if labels else kind.adapters if adapters is None else adapters
    model = kind(
        num_classes=num_classes, frames=frames[-1:] if spread else frames, adapters=adapters,
        **_sizes(state, kind), **fields,
    )  # fmt: skip
    variables = _variables(model, state, labels, head_key)
    return _spread(model, variables, frames, head_key) if spread else (model, variables)


def _variables(
    model: SlowFast | UniFormer,
    state: Mapping[str, Any],
    labels: Sequence[int],
    head_key: jax.Array | None,
) -> dict[str, Any]:
    """The state dict's tensors as variables, with a new classifier if there is a key for it."""
    rows, drawn, kind = rows_of(model, labels), {}, type(model)
    if head_key is not None:
        fresh = [row for row in rows if row.paths[0].startswith("head/")]
        rows = [row for row in rows if row not in fresh]
        drawn = label_sets.new_parameters(fresh, head_key, _HEAD_STD[kind])
    what = f"a {kind.__name__} of {len(labels) or 1} branch(es)"
    return to_variables(state, rows, what, drawn)


def _spread(
    model: SlowFast | UniFormer,
    variables: Mapping[str, Any],
    frames: tuple[int, ...],
    key: jax.Array,
) -> tuple[SlowFast | UniFormer, dict[str, Any]]:
    """A plain network as one of several branches; `key` draws the adapters."""
    model = model.clone(frames=frames)
    blocks = adapted_blocks(model) if model.alters else {}
    std = ADAPTER_STD if isinstance(model, UniFormer) else None
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    return model, spread_branches(variables, len(frames), blocks, rng, std)


def _sizes(state: Mapping[str, Any], kind: type) -> dict[str, Any]:
    """Fields that shapes tell."""
    what = f"a {kind.__name__}"
    if kind is SlowFast:
        pattern = re.escape("s1.pathway{}_stem.conv.weight")
        slow, fast = (
            shapes.infer(state, what, (pattern.replace(r"\{\}", str(i)), 0)) for i in (0, 1)
        )
        counts = [
            shapes.count(state, rf"s{i}\.pathway0_res(\d+)\.")
            for i in range(2, len(SLOW_KERNELS) + 1)
        ]
        layers = tuple(count for count in counts if count)
        return {"width": slow, "beta_inv": slow // fast, "layers": layers}
    stages = range(1, shapes.count(state, r"blocks(\d+)\."))
    widths = tuple(shapes.infer(state, what, (rf"patch_embed{i}\.proj\.weight", 0)) for i in stages)
    hidden = shapes.infer(state, what, (r"blocks1\.\d+\.mlp\.fc1\.weight", 0))
    return {
        "widths": widths,
        "layers": tuple(shapes.count(state, rf"blocks{i}\.(\d+)\.") for i in stages),
        "mlp_ratio": shapes.ratio_of(hidden, widths[0]),
    }


def _from_caffe2(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state dict with PyTorch's names; without the optimizer's momenta, rates and counts."""
    found = {}
    for name, value in state.items():
        for pattern, renamed in _CAFFE2:
            match = re.match(pattern, name)
            ending = next((e for e in _CAFFE2_ENDINGS if name.endswith(e)), None)
            if match and ending:
                stem = (renamed(match) + name[match.end() :]).removesuffix(ending)
                found[stem + _CAFFE2_ENDINGS[ending]] = value
                break
    return found
