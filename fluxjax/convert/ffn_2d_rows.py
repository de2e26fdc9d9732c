"""Tables of TSM's and TEA's tensors: their names in official state dicts, shapes, and ours."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fluxjax.convert.ffn_rows import adapter_rows, conv_row, labels_for, norm_rows
from fluxjax.convert.mapping import Layout, Row, dense
from fluxjax.models.frame_flexible.resnet import FrameResNet
from fluxjax.models.frame_flexible.tea import REDUCTION, SCALE, Tea, inner_width

BASE = "base_model."
HEADS = ("new_fc", BASE + "fc")  # with dropout before it, and without


class BlockSizes(NamedTuple):
    """A block's names and widths."""

    name: str  # official
    path: str  # ours
    width_in: int
    width: int
    shortcut: bool


def blocks_of(model: FrameResNet) -> Iterator[BlockSizes]:
    """The blocks of a network, in order."""
    channels = model.stem
    for stage, (count, width) in enumerate(zip(model.layers, model.widths, strict=True)):
        for i in range(count):
            shortcut = i == 0 and (stage > 0 or channels != width * model.expansion())
            number = stage + 1
            yield BlockSizes(
                f"{BASE}layer{number}.{i}", f"layer{number}_block{i}", channels, width, shortcut
            )
            channels = width * model.expansion()


def rows_of(
    model: FrameResNet, labels: Sequence[int] | None = None, head: str | None = None
) -> list[Row]:
    """The table of a network's official state dict.

    Args:
      model: Tsm or Tea.
      labels: of its branches; None: see `labels_for`.
      head: name of the classifier; None: by the dropout, one of `HEADS`.
    """
    labels = labels_for(model.frames) if labels is None else labels
    head = HEADS[0 if model.dropout > 0 else 1] if head is None else head
    rows = [
        conv_row(BASE + "conv1", "conv1", model.stem, 3, 7, 7),
        *norm_rows(BASE + "bn1{}", "bn1", model.stem, labels),
    ]
    convolutions = tea_rows if isinstance(model, Tea) else tsm_rows
    for block in blocks_of(model):
        rows += convolutions(block, model, labels)
        if block.shortcut:
            rows += shortcut_rows(block, block.width * model.expansion(), labels)
        if model.alters:
            rows += adapter_rows(
                f"{block.name}.adaconv", f"{block.path}/adaconv", block.width_in, labels, axes=2
            )
    width = model.widths[-1] * model.expansion()
    return rows + dense(head, "head", width, model.num_classes)


def shortcut_rows(block: BlockSizes, width: int, labels: Sequence[int]) -> list[Row]:
    """Sequential in plain networks, two modules of their own in those with branches."""
    names = ("downsample_conv", "downsample_bn{}") if labels else ("downsample.0", "downsample.1")
    convolution, norm = (f"{block.name}.{name}" for name in names)
    return [
        conv_row(convolution, f"{block.path}/downsample_conv", width, block.width_in, 1, 1),
        *norm_rows(norm, f"{block.path}/downsample_bn", width, labels),
    ]


def tsm_rows(block: BlockSizes, model: FrameResNet, labels: Sequence[int]) -> list[Row]:
    """A block of TSM, without shortcut and adapters."""
    w = block.width
    shapes = [(w, block.width_in, 1, 1), (w, w, 3, 3), (4 * w, w, 1, 1)]
    if not model.bottleneck:
        shapes = [(w, block.width_in, 3, 3), (w, w, 3, 3)]
    rows = []
    for i, shape in enumerate(shapes, start=1):
        rows.append(conv_row(f"{block.name}.conv{i}", f"{block.path}/conv{i}", *shape))
        rows += norm_rows(f"{block.name}.bn{i}{{}}", f"{block.path}/bn{i}", shape[0], labels)
    return rows


# Stored [C, 1, 3] <-> kernel [3, C].
_TEMPORAL = Layout(lambda x: (x[:, 0].T,), lambda arrays, shape: arrays[0].T[:, None])


def tea_rows(block: BlockSizes, model: FrameResNet, labels: Sequence[int]) -> list[Row]:
    """A block of TEA, without shortcut and adapters."""
    del model
    name, path, w = block.name, block.path, inner_width(block.width)
    wide, out = SCALE * w, 4 * block.width
    rows = [
        conv_row(f"{name}.conv1", f"{path}/conv1", wide, block.width_in, 1, 1),
        *norm_rows(f"{name}.bn1{{}}", f"{path}/bn1", wide, labels),
        *motion_rows(f"{name}.me", f"{path}/me", wide, labels),
        conv_row(f"{name}.conv3", f"{path}/conv3", out, wide, 1, 1),
        *norm_rows(f"{name}.bn3{{}}", f"{path}/bn3", out, labels),
    ]
    for i in range(SCALE):
        kernel, shape = f"{path}/shifts{i}/kernel", (w, 1, 3)
        rows.append(Row(f"{name}.shifts.{i}.conv.weight", shape, (kernel,), _TEMPORAL))
    for i in range(SCALE - 1):
        rows.append(conv_row(f"{name}.convs.{i}", f"{path}/convs{i}", w, w, 3, 3))
        rows += norm_rows(f"{name}.bns{{}}.{i}", f"{path}/bns{i}", w, labels)
    return rows


def motion_rows(name: str, path: str, width: int, labels: Sequence[int]) -> list[Row]:
    """TEA's motion excitation of `width` channels."""
    reduced = width // REDUCTION
    return [
        conv_row(f"{name}.conv1", f"{path}/conv1", reduced, width, 1, 1),
        *norm_rows(f"{name}.bn1{{}}", f"{path}/bn1", reduced, labels),
        conv_row(f"{name}.conv2", f"{path}/conv2", reduced, 1, 3, 3),
        conv_row(f"{name}.conv3", f"{path}/conv3", width, reduced, 1, 1),
        *norm_rows(f"{name}.bn3{{}}", f"{path}/bn3", width, labels),
    ]
