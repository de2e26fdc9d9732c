"""Tables of SlowFast's and UniFormer's tensors: official names and shapes, and ours."""

from collections.abc import Sequence

from fluxjax.convert.ffn_rows import adapter_rows, conv_row, labels_for, norm_rows
from fluxjax.convert.mapping import Row, dense, layer_norm, vector
from fluxjax.models.frame_flexible.slowfast import SlowFast
from fluxjax.models.frame_flexible.slowfast_sizes import (
    FAST_KERNELS,
    FUSE_KERNEL,
    FUSE_RATIO,
    SLOW_KERNELS,
)
from fluxjax.models.frame_flexible.uniformer import CONV_STAGES, UniFormer

_PATHWAYS = ("slow", "fast")


def adapted_blocks(model: SlowFast | UniFormer) -> dict[str, int]:
    """Our name of each block that has adapters -> its input's channels."""
    rows = rows_of(model.clone(frames=(1, 2), adapters=True))
    found = (row for row in rows if row.paths[0].endswith("/adaconv_0/kernel"))
    return {row.paths[0].split("/")[0]: row.shape[0] for row in found}


def rows_of(model: SlowFast | UniFormer, labels: Sequence[int] | None = None) -> list[Row]:
    """The table of a network's official state dict.

    Args:
      model: of either kind.
      labels: of its branches; None: see `labels_for`.
    """
    labels = labels_for(model.frames) if labels is None else labels
    if isinstance(model, SlowFast):
        return _slowfast_rows(model, labels)
    return _uniformer_rows(model, labels)


def _slowfast_rows(model: SlowFast, labels: Sequence[int]) -> list[Row]:
    slow, fast = model.width, model.width // model.beta_inv
    rows = []
    for pathway, width, kernels in ((0, slow, SLOW_KERNELS), (1, fast, FAST_KERNELS)):
        name, ours = f"s1.pathway{pathway}_stem", f"s1_{_PATHWAYS[pathway]}"
        rows.append(conv_row(f"{name}.conv", f"{ours}/conv", width, 3, kernels[0], 7, 7))
        rows += norm_rows(f"{name}.bn{{}}", f"{ours}/bn", width, labels)
    for stage, blocks in enumerate(model.layers, start=2):
        name, given = f"s{stage - 1}_fuse", FUSE_RATIO * fast
        rows.append(
            conv_row(f"{name}.conv_f2s", f"{name}/conv_f2s", given, fast, FUSE_KERNEL, 1, 1)
        )
        rows += norm_rows(f"{name}.bn{{}}", f"{name}/bn", given, labels)
        inner = model.width * 2 ** (stage - 2)
        for pathway, width_in, width, seen in (
            (0, slow + given, inner, SLOW_KERNELS[stage - 1]),
            (1, fast, inner // model.beta_inv, FAST_KERNELS[stage - 1]),
        ):
            for i in range(blocks):
                own = width_in if i == 0 else 4 * width
                rows += _slowfast_block(model, pathway, stage, i, (own, width, seen), labels)
        slow, fast = 4 * inner, 4 * inner // model.beta_inv
    return rows + dense("head.projection", "head", slow + fast, model.num_classes)


def _slowfast_block(
    model: SlowFast, pathway: int, stage: int, number: int, sizes: tuple[int, int, int], labels
) -> list[Row]:
    """A block of `sizes`: input's channels, inner channels, frames that the kernel sees."""
    width_in, w, seen = sizes
    name = f"s{stage}.pathway{pathway}_res{number}"
    ours = f"s{stage}_{_PATHWAYS[pathway]}_res{number}"
    shapes = {"a": (w, width_in, seen, 1, 1), "b": (w, w, 1, 3, 3), "c": (4 * w, w, 1, 1, 1)}
    rows = []
    for layer, shape in shapes.items():
        rows.append(conv_row(f"{name}.branch2.{layer}", f"{ours}/{layer}", *shape))
        rows += norm_rows(f"{name}.branch2.{layer}_bn{{}}", f"{ours}/{layer}_bn", shape[0], labels)
    if number == 0 and (stage > 2 or width_in != 4 * w):
        rows.append(conv_row(f"{name}.branch1", f"{ours}/branch1", 4 * w, width_in, 1, 1, 1))
        rows += norm_rows(f"{name}.branch1_bn{{}}", f"{ours}/branch1_bn", 4 * w, labels)
    if model.alters:
        rows += adapter_rows(f"{name}.branch2.adaconv", f"{ours}/adaconv", width_in, labels, axes=3)
    return rows


def _uniformer_rows(model: UniFormer, labels: Sequence[int]) -> list[Row]:
    rows, below = [], 3
    for stage, (blocks, width) in enumerate(zip(model.layers, model.widths, strict=True)):
        kernel, name = (3, 4, 4) if stage == 0 else (1, 2, 2), f"patch_embed{stage + 1}"
        rows += patch_embed_rows(name, name, (width, below, *kernel), labels)
        hidden, adapted = int(width * model.mlp_ratio), labels if model.alters else ()
        table = conv_block_rows if stage < CONV_STAGES else attention_block_rows
        for i in range(blocks):
            name, ours = f"blocks{stage + 1}.{i}", f"blocks{stage + 1}_{i}"
            rows += table(name, ours, width, hidden, labels)
            rows += adapter_rows(f"{name}.adaconv", f"{ours}/adaconv", width, adapted, axes=3)
        below = width
    rows += norm_rows("norm{}", "norm", below, labels)
    return rows + dense("head", "head", below, model.num_classes)


def patch_embed_rows(
    name: str, ours: str, shape: tuple[int, ...], labels: Sequence[int]
) -> list[Row]:
    """A strided convolution of `shape` and its layer norms."""
    rows = _conv(f"{name}.proj", f"{ours}/proj", *shape)
    return rows + _layer_norms(f"{name}.norm", f"{ours}/norm", shape[0], labels)


def conv_block_rows(
    name: str, ours: str, width: int, hidden: int, labels: Sequence[int]
) -> list[Row]:
    """A block of UniFormer that convolves, without adapters."""
    one = (1, 1, 1)
    return [
        *_conv(f"{name}.pos_embed", f"{ours}/pos_embed", width, 1, 3, 3, 3),
        *norm_rows(f"{name}.norm1{{}}", f"{ours}/norm1", width, labels),
        *_conv(f"{name}.conv1", f"{ours}/conv1", width, width, *one),
        *_conv(f"{name}.attn", f"{ours}/attn", width, 1, 5, 5, 5),
        *_conv(f"{name}.conv2", f"{ours}/conv2", width, width, *one),
        *norm_rows(f"{name}.norm2{{}}", f"{ours}/norm2", width, labels),
        *_conv(f"{name}.mlp.fc1", f"{ours}/fc1", hidden, width, *one),
        *_conv(f"{name}.mlp.fc2", f"{ours}/fc2", width, hidden, *one),
    ]


def attention_block_rows(
    name: str, ours: str, width: int, hidden: int, labels: Sequence[int]
) -> list[Row]:
    """A block of UniFormer that attends, without adapters."""
    return [
        *_conv(f"{name}.pos_embed", f"{ours}/pos_embed", width, 1, 3, 3, 3),
        *_layer_norms(f"{name}.norm1", f"{ours}/norm1", width, labels),
        *dense(f"{name}.attn.qkv", f"{ours}/qkv", width, 3 * width),
        *dense(f"{name}.attn.proj", f"{ours}/proj", width, width),
        *_layer_norms(f"{name}.norm2", f"{ours}/norm2", width, labels),
        *dense(f"{name}.mlp.fc1", f"{ours}/mlp/fc1", width, hidden),
        *dense(f"{name}.mlp.fc2", f"{ours}/mlp/fc2", hidden, width),
    ]


def _conv(name: str, path: str, *shape: int) -> list[Row]:
    """A convolution with bias."""
    return [conv_row(name, path, *shape), vector(f"{name}.bias", f"{path}/bias", shape[0])]


def _layer_norms(name: str, path: str, width: int, labels: Sequence[int]) -> list[Row]:
    """The layer norms of all branches."""
    suffixes = [f"_{label}" for label in labels] or [""]
    return [
        row
        for i, suffix in enumerate(suffixes)
        for row in layer_norm(name + suffix, f"{path}_{i}", width)
    ]
