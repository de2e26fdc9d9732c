"""What to read: one `Record` (a video, its label, its span) for each example of a data set.

`open_catalog` understands the demo corpus, any TFDS data set that keeps videos as bytes or paths,
and list files. A catalog knows nothing of decoding: a record's source is the path of a local file,
or bytes where there is no local file. TensorFlow is imported for remote paths only (tf.io.gfile).
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from data_pipelines.sources.array_records import open_dummy
from data_pipelines.sources.class_subset import ClassSubset
from data_pipelines.sources.list_files import ListFile, missing
from data_pipelines.sources.records import Catalog, Record
from data_pipelines.sources.tfds_records import TfdsCatalog, open_demo, open_tfds

__all__ = ["Catalog", "ListFile", "Record", "TfdsCatalog", "missing", "open_catalog"]


def open_catalog(
    source: str,
    *,
    split: str,
    data_dir: str | os.PathLike[str] | None = None,
    root: str = "",
    separator: str | None = None,
    num_classes: int | None = None,
    label_names: Sequence[str] | None = None,
    classes: Sequence[str | int] = (),
) -> Catalog:
    """Opens a catalog by its name.

    Args:
      source: one of
        - ``demo``, ``demo:easy``, ``demo:hard``: the bundled corpus, made on first use; its labels
          are motions, those of ``demo:easy?label=digit`` the digits (set num_classes to 10);
        - ``dummy``, ``dummy:COUNT``: blank videos that need no decoding, to measure the rest;
        - ``tfds:NAME[/CONFIG]``: a TFDS data set prepared as array_record. The features are called
          `video` and `label` unless ``tfds:NAME?video=KEY&label=KEY`` says otherwise;
        - the path (local or gs://) of a list file; ``{split}`` in it is replaced by the split.
      split: e.g. "train". A list file without ``{split}`` is its own split, whatever it is called.
      data_dir: where TFDS and the demo corpus are kept. None: TFDS's own default, and
        `data_pipelines.demo.default_data_dir`. List files have no use for it.
      root: folder or gs:// prefix put before relative paths (in a list file or a TFDS feature).
      separator: between the fields of a list file; None is any white space.
      num_classes: checked against what the source says; for a list file None is the largest label
        plus one.
      label_names: names of the classes, replacing those of the source.
      classes: names or numbers of the classes to keep, renumbered in this order; () keeps all.
        `num_classes` then counts these.

    Raises:
      ValueError: an unknown form or option, or a bad list; says what to change.
      FileNotFoundError: there is no such list file or prepared data set.
    """
    whole = None if classes else num_classes
    catalog = _open(source, split, data_dir, root, separator, whole, label_names)
    if not classes:
        return catalog
    if num_classes not in (None, len(classes)):
        raise ValueError(f"num_classes={num_classes}, but classes={tuple(classes)} are given")
    return ClassSubset(catalog, classes)


def _open(source, split, data_dir, root, separator, num_classes, label_names) -> Catalog:
    kind, _, rest = source.partition(":")
    if kind == "demo":
        for option, value in (("root", root), ("separator", separator)):
            if value:
                raise ValueError(f"{option}={value!r} has no meaning for {source!r}; leave it out")
        return open_demo(rest, split, data_dir, num_classes, label_names)
    if kind == "dummy":
        return open_dummy(rest, num_classes)
    if kind == "tfds":
        if separator:
            raise ValueError(f"separator={separator!r} has no meaning for {source!r}; leave it out")
        return open_tfds(rest, split, data_dir, root, num_classes, label_names)
    return ListFile(
        source.replace("{split}", split),
        root=root,
        separator=separator,
        num_classes=num_classes,
        label_names=label_names,
    )
