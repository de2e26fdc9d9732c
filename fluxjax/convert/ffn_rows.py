"""Names of frame flexible networks' tensors, with and without branches.

A plain network has `bn1`, one with branches `bn1_4`, `bn1_8` and `bn1_16`: the suffix is a label of
the branch, SlowFast's too, whose frame numbers are 16, 32 and 64.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fluxjax.convert.mapping import Layout, Row, vector

RELEASED_LABELS = (4, 8, 16)
_LABEL = re.compile(r"\.?\w*(?:bn\d?|bns|norm\d?)_(\d+)\.")


def labels_in(state: Iterable[str]) -> tuple[int, ...]:
    """Labels of the branches that names of a state dict tell of, ascending; none: it is plain."""
    return tuple(sorted({int(label) for name in state for label in _LABEL.findall(name)}))


def labels_for(frames: Sequence[int]) -> tuple[int, ...]:
    """Labels to write: the released ones of three branches, else the frame numbers; plain: none."""
    if len(frames) == 1:
        return ()
    return RELEASED_LABELS if len(frames) == len(RELEASED_LABELS) else tuple(frames)


def frames_for(
    labels: Sequence[int], frames: Sequence[int] | None, released: Sequence[int], plain: int
) -> tuple[int, ...]:
    """Frame numbers of a network: what is given, else the released ones.

    Args:
      labels: of the state dict, see `labels_in`.
      frames: the keyword `frames`, or None.
      released: frame numbers of the released network with branches.
      plain: frame number of a plain network.

    Raises:
      ValueError: if `frames` are not one for each branch of a state dict that has branches.
    """
    if labels and frames is not None and len(frames) != len(labels):
        raise ValueError(
            f"frames={tuple(frames)} name {len(frames)} branches, the checkpoint has "
            f"{len(labels)} (labels {tuple(labels)}); pass as many, or none"
        )
    if frames is not None:
        return tuple(frames)
    if not labels:
        return (plain,)
    return tuple(released) if tuple(labels) == RELEASED_LABELS else tuple(labels)


def check_key(head_key: Any, what: str) -> None:
    """Raises ValueError if `what` lacks weights and there is no key to draw them."""
    if head_key is None:
        raise ValueError(
            f"{what}: pass num_classes= and head_key=jax.random.key(..), which draws what the "
            "checkpoint lacks, and the classifier"
        )


CONV = Layout(
    lambda x: (np.moveaxis(x, (0, 1), (-1, -2)),),
    lambda arrays, shape: np.moveaxis(arrays[0], (-1, -2), (0, 1)),
)


def conv_row(name: str, path: str, *shape: int) -> Row:
    """The weight of a convolution [O, I, ..] <-> kernel [.., I, O]."""
    return Row(f"{name}.weight", shape, (f"{path}/kernel",), CONV)


def norm_rows(name: str, path: str, width: int, labels: Sequence[int], stats=True) -> list[Row]:
    """The norms of all branches.

    Args:
      name: with {} where the label goes: "bn1{}", "bns{}.0".
      path: of ours, without the branch's number.
      width: channels.
      labels: of the branches; none: plain.
      stats: whether they keep statistics of batches.
    """
    rows = []
    for i, label in enumerate(labels or [None]):
        full, ours = name.format("" if label is None else f"_{label}"), f"{path}_{i}"
        rows.append(vector(f"{full}.weight", f"{ours}/scale", width))
        rows.append(vector(f"{full}.bias", f"{ours}/bias", width))
        if stats:
            for theirs, kept in (("running_mean", "mean"), ("running_var", "var")):
                shape, paths = (width,), (f"{ours}/{kept}",)
                rows.append(Row(f"{full}.{theirs}", shape, paths, collection="batch_stats"))
    return rows


def adapter_rows(name: str, path: str, width: int, labels: Sequence[int], axes: int) -> list[Row]:
    """The adapters of all branches: depthwise weights [C, 1, 1, ..] over `axes` axes."""
    shape = (width,) + (1,) * (axes + 1)
    return [
        vector(f"{name}_{label}.weight", f"{path}_{i}/kernel", width, shape)
        for i, label in enumerate(labels)
    ]


def with_fresh(
    state: Mapping[str, Any], rows: Iterable[Row], rng: np.random.Generator
) -> dict[str, Any]:
    """The state dict with initial values for the tensors of `rows` that it lacks."""
    return dict(state) | {row.name: _fresh(row, rng) for row in rows if row.name not in state}


def _fresh(row: Row, rng: np.random.Generator) -> np.ndarray:
    """As the official constructors draw them: convolutions by He's rule, small classifiers."""
    if ".shifts." in row.name:  # TEA's temporal convolutions, [C, 1, 3]
        return _fresh_shift(row)
    if len(row.shape) > 1:
        head = row.paths[0].startswith("head/")
        std = 1e-3 if head else (2 / (row.shape[0] * np.prod(row.shape[2:]))) ** 0.5
        return np.float32(std) * rng.standard_normal(row.shape, np.float32)
    return np.full(row.shape, row.paths[0].endswith(("/scale", "/var")), np.float32)


def _fresh_shift(row: Row) -> np.ndarray:
    """The frame itself; of the last group the next one in half of its channels, else the last."""
    weight = np.zeros(row.shape, np.float32)
    if ".shifts.3." in row.name:
        half = len(weight) // 2
        weight[:half, 0, 2] = weight[half:, 0, 0] = 1
    else:
        weight[:, 0, 1] = 1
    return weight
