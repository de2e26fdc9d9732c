"""What to read: one `Record` (a video, its label, its span) for each example of a data set.

`open_catalog` understands the demo corpus, any TFDS data set that keeps videos as bytes or paths,
list files, annotation files, class folders and tar files. A catalog knows nothing of decoding: a
record's source is the path of a local file, or bytes where there is no local file. TensorFlow is
imported for TFDS and remote paths only.

A source is one of

- ``demo[:VARIANT]``: the bundled corpus, made on first use; its labels are motions, those
  of ``demo:easy?label=digit`` the digits (set num_classes to 10), those of
  ``demo:easy?classes=label,digit`` both; see also `open_demo`;
- ``dummy``, ``dummy:COUNT``: blank videos that need no decoding, to measure the rest;
- ``tfds:NAME[/CONFIG]``: a TFDS data set prepared as array_record. The features are called
  `video` and `label` unless ``tfds:NAME?video=KEY&label=KEY`` says otherwise; captions are
  read where ``captions=KEY`` names a feature of one or several texts;
- ``mix:PATH[?SOURCE=WEIGHT&..]``: several data sets without labels, see `mixed_lists`;
- the path (local or gs://) of a list file, of an annotation file (.jsonl; .json with a list
  of objects; .csv with a heading that names `video` or `path`), or of a folder with a
  folder of videos for each class; ``{split}`` in it is replaced by the split;
- the path of narrations as LaViLa publishes them (.pkl), or of annotations of
  EPIC-KITCHENS-100 (.csv);
- tar files of videos, WebDataset's: ``a.tar``, ``train-{0000..0063}.tar``, ``train/*.tar``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from data_pipelines.sources.annotations import AnnotationFile, is_annotation_file
from data_pipelines.sources.array_records import open_dummy
from data_pipelines.sources.class_folders import ClassFolder
from data_pipelines.sources.class_subset import ClassSubset
from data_pipelines.sources.epic_kitchens import EpicKitchens, is_epic_file
from data_pipelines.sources.frame_lists import FrameList
from data_pipelines.sources.list_files import ListFile
from data_pipelines.sources.mixed_lists import MixedList
from data_pipelines.sources.narrations import NarrationFile
from data_pipelines.sources.path_catalog import PathCatalog, missing
from data_pipelines.sources.records import Catalog, Record
from data_pipelines.sources.remote import is_folder
from data_pipelines.sources.tar_shards import TarShards, is_tar
from data_pipelines.sources.tfds_records import TfdsCatalog, open_demo, open_tfds

__all__ = ["Catalog", "ListFile", "PathCatalog", "Record", "TfdsCatalog", "missing", "open_catalog"]


def open_catalog(
    source: str,
    *,
    split: str,
    data_dir: str | os.PathLike[str] | None = None,
    root: str = "",
    separator: str | None = None,
    frames: str | None = None,
    paragraphs: bool = False,
    first_seconds: float | None = None,
    num_classes: int | None = None,
    label_names: Sequence[str] | None = None,
    classes: Sequence[str | int] = (),
    training: Catalog | None = None,
) -> Catalog:
    """Opens a catalog by its name.

    Args:
      source: one of the forms above.
      split: e.g. "train". A path without ``{split}`` is its own split, whatever it is called.
      data_dir: where TFDS and the demo corpus are kept. None: TFDS's own default, and
        `data_pipelines.demo.default_data_dir`. Paths have no use for it.
      root: folder or gs:// prefix put before relative paths (in a file or a TFDS feature).
      separator: between the fields of a list file, white space by default, or of a .csv.
      frames: the list names folders of images called so, such as ``{:05d}.jpg``, a line
        ``path num_frames label``; None: it names videos.
      paragraphs: captions of one entry of an annotation file are the sentences of one text.
      first_seconds: that are used of each video of an annotation file; None: all.
      num_classes: checked against what the source says; for numbers in a file None is the largest
        label plus one.
      label_names: names of the classes, replacing those of the source; labels that are names are
        numbered in this order, else by the `classes.txt` beside the file, else sorted.
      classes: names or numbers of the classes to keep, renumbered in this order; () keeps all.
        `num_classes` then counts these.
      training: the catalog trained on: this one gets its number, names and order of classes.

    Raises:
      ValueError: an unknown form or option, or a bad list; says what to change.
      FileNotFoundError: there is no such list file or prepared data set.
    """
    if isinstance(training, ClassSubset):
        training = training.whole
    whole = None if classes else num_classes
    lists = {
        "root": root, "separator": separator, "frames": frames, "paragraphs": paragraphs,
        "first_seconds": first_seconds,
    }  # fmt: skip
    catalog = _open(source, split, data_dir, lists, whole, label_names, training)
    if not classes:
        return catalog
    if num_classes not in (None, len(classes)):
        raise ValueError(f"num_classes={num_classes}, but classes={tuple(classes)} are given")
    return ClassSubset(catalog, classes)


def opens_at_once(source: str) -> bool:
    """Whether nothing has to be made, fetched or prepared to open a source."""
    return source.partition(":")[0] not in ("demo", "tfds")


def _open(source, split, data_dir, lists, num_classes, label_names, training) -> Catalog:
    kind, _, rest = source.partition(":")
    if kind in ("demo", "dummy", "tfds"):
        _refuse(source, {n: x for n, x in lists.items() if (n, kind) != ("root", "tfds")})
        if training is not None and num_classes is None:
            num_classes = training.num_classes or None
    if kind == "demo":
        catalog = open_demo(rest, split, data_dir, num_classes, label_names)
    elif kind == "dummy":
        catalog = open_dummy(rest, num_classes)
    elif kind == "tfds":
        catalog = open_tfds(rest, split, data_dir, lists["root"], num_classes, label_names)
    elif kind == "mix":
        _refuse(source, {name: lists[name] for name in ("paragraphs", "first_seconds")})
        return MixedList(
            rest.replace("{split}", split), root=lists["root"], separator=lists["separator"],
            num_classes=num_classes, label_names=label_names, training=training,
        )  # fmt: skip
    else:
        return open_path(
            source.replace("{split}", split),
            **lists,
            num_classes=num_classes,
            label_names=label_names,
            training=training,
        )
    _check_names(source, catalog, training)
    return catalog


def open_path(
    path: str,
    *,
    root: str = "",
    separator: str | None = None,
    frames: str | None = None,
    paragraphs: bool = False,
    first_seconds: float | None = None,
    **known: Any,
) -> PathCatalog:
    """A list or annotation file, a class folder, tar files; options as of `open_catalog`.

    Raises:
      ValueError, OSError: see `open_catalog`.
    """
    of_lists = {"root": root, "separator": separator}
    of_captions = {"paragraphs": paragraphs, "first_seconds": first_seconds}
    own = TarShards if is_tar(path) else None
    if own is None and is_folder(os.path.expanduser(path)):
        own = ClassFolder
    if own is not None:
        _refuse(path, of_lists | of_captions | {"frames": frames})
        return own(path, **known)
    if frames is not None:
        _refuse(path, of_captions)
        return FrameList(path, frames, **of_lists, **known)
    kind = _kind_of_file(path)
    if kind is AnnotationFile:
        return AnnotationFile(path, **of_lists, **of_captions, **known)
    _refuse(path, of_captions)
    return kind(path, **of_lists, **known)


def _refuse(source: str, options: Mapping[str, Any]) -> None:
    """Raises ValueError for options that a kind of source does not have."""
    for option, value in options.items():
        if value:
            raise ValueError(f"{option}={value!r} has no meaning for {source!r}; leave it out")


def _kind_of_file(path: str) -> type[PathCatalog]:
    if os.path.splitext(path)[1].lower() in (".pkl", ".pickle"):
        return NarrationFile
    if is_epic_file(path):
        return EpicKitchens
    return AnnotationFile if is_annotation_file(path) else ListFile


def _check_names(source: str, catalog: Catalog, training: Catalog | None) -> None:
    """A data set with names of its own must have those of the training data, in their order."""
    wanted = None if training is None else training.label_names
    if wanted and catalog.label_names and wanted != catalog.label_names:
        raise ValueError(
            f"the classes of {source!r} are {', '.join(catalog.label_names[:10])}, those of the "
            f"training data {', '.join(wanted[:10])}; test on data with the same classes"
        )
