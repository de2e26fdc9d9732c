"""TFDS data sets whose examples keep a video as encoded bytes, or as the path of a file."""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from data_pipelines.sources.demo_classes import DemoClasses, feature_names
from data_pipelines.sources.demo_questions import DemoQuestions, kinds_of
from data_pipelines.sources.records import Catalog, Record, class_count
from data_pipelines.sources.remote import join, source_of
from data_pipelines.sources.rows import Rows


class Keys(NamedTuple):
    """The features of a data set that hold the video, the label, and the captions if any."""

    video: str = "video"
    label: str = "label"
    captions: str | None = None


_PLAIN = Keys()


class TfdsCatalog(Catalog):
    """Records of a TFDS random-access data source."""

    def __init__(
        self,
        source: Sequence[dict[str, Any]],
        name: str,
        *,
        num_classes: int,
        label_names: tuple[str, ...] | None,
        keys: Keys = _PLAIN,
        root: str = "",
    ):
        """Wraps a data source, which is then `examples`."""
        self.examples = source
        self._source, self._name, self._keys = source, name, keys
        self._root = os.path.expanduser(root)
        self.num_classes, self.label_names = num_classes, label_names

    def __len__(self) -> int:
        """How many examples the split has."""
        return len(self._source)

    def __getitem__(self, index: int) -> Record:
        """Reads example `index`."""
        example = self._source[range(len(self))[index]]
        video, label = example[self._keys.video], int(example[self._keys.label])
        name, captions = f"{self._name}[{index}]", self._captions(example)
        if not 0 <= label < self.num_classes:
            raise ValueError(f"{name} has label {label}, outside 0..{self.num_classes - 1}")
        if not _is_path(video):
            return Record(video, label, name, captions=captions)
        path = join(self._root, video.decode())
        return Record(source_of(path), label, path, captions=captions)

    def labels(self) -> np.ndarray:
        """Class number of every example, [len] int64; videos are read past, not decoded."""
        return np.array([int(example[self._keys.label]) for example in self._source], np.int64)

    def captions(self) -> list[tuple[str, ...]]:
        """Of every example; decodes no video."""
        return [self._captions(example) for example in self._source]

    def first_of_each(self, keys: Sequence[str]) -> list[int]:
        """The first example of every combination of some features; reads all, decodes no video."""
        first: dict[tuple, int] = {}
        for index, example in enumerate(self._source):
            first.setdefault(tuple(int(example[key]) for key in keys), index)
        return sorted(first.values())

    def _captions(self, example: dict[str, Any]) -> tuple[str, ...]:
        if self._keys.captions is None:
            return ()
        texts = (text.decode().strip() for text in np.atleast_1d(example[self._keys.captions]))
        return tuple(dict.fromkeys(text for text in texts if text))


def open_demo(
    spec: str,
    split: str,
    data_dir: str | os.PathLike[str] | None,
    num_classes: int | None,
    label_names: Sequence[str] | None,
) -> Catalog:
    """Opens a split of ``[VARIANT][?label=KEY&..]``, a demo corpus; it is made on first use.

    With ``distinct=label,digit,photo`` it is the first clip of every combination of these. With
    ``classes=label,digit`` there is a class for each combination. With ``ask=KIND`` questions are
    in the place of captions, see `demo.questions`.

    Raises:
      ValueError: on an unknown variant, option or feature.
    """
    from data_pipelines import demo

    spec, own = _own_options(spec)
    classes, distinct = (
        tuple(filter(None, own[option].split(","))) for option in ("classes", "distinct")
    )
    variant, keys = _keys_of(f"demo:{spec}", spec or "easy")
    builder = demo.load(variant or "easy", data_dir)
    features = builder.info.features
    if keys.captions is None and "captions" in features:
        keys = keys._replace(captions="captions")
    known = sorted(set(features) - {"video", "captions", "index"})
    for option, chosen in (("classes", classes), ("distinct", distinct)):
        if unknown := [key for key in chosen if key not in known]:
            raise ValueError(
                f"{option}={unknown[0]!r} in demo:{spec}: choose of {', '.join(known)}"
            )
    given = (None, None) if classes else (num_classes, label_names)
    catalog = _from_builder(builder, f"demo:{spec}", split, *given, keys=keys)
    examples = catalog.examples
    if distinct:
        rows = catalog.first_of_each(distinct)
        catalog, examples = Rows(catalog, rows), [examples[int(row)] for row in rows]
    if classes:
        catalog = DemoClasses(catalog, examples, feature_names(features, classes))
        _, catalog.label_names = class_count(
            f"demo:{spec}", catalog.label_names, num_classes, label_names
        )
    if not own["ask"]:
        return catalog
    if "photo" not in features:
        raise ValueError(f"ask={own['ask']!r} in demo:{spec}: questions are about demo:captions")
    names = (features["label"].names, features["photo"].names)
    return DemoQuestions(catalog, examples, kinds_of(own["ask"]), *names)


def _own_options(spec: str) -> tuple[str, dict[str, str]]:
    """``VARIANT?label=KEY&distinct=A,B&..`` -> without what only the demo corpus has, and that."""
    variant, _, query = spec.partition("?")
    options = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
    own = {name: options.pop(name, "") for name in ("classes", "distinct", "ask")}
    return "?".join(filter(None, [variant, urllib.parse.urlencode(options)])), own


def open_tfds(
    spec: str,
    split: str,
    data_dir: str | os.PathLike[str] | None,
    root: str,
    num_classes: int | None,
    label_names: Sequence[str] | None,
) -> TfdsCatalog:
    """Opens ``NAME[/CONFIG][?video=KEY&label=KEY]``; the data set must be prepared already."""
    import tensorflow_datasets as tfds

    from data_pipelines.demo.builder import quiet

    name, keys = _keys_of(f"tfds:{spec}", spec)
    where = {} if data_dir is None else {"data_dir": os.fspath(data_dir)}
    remedy = f"{_prepare(name, where.get('data_dir'))}, or set data_dir to where it is"
    with quiet():
        try:
            builder = tfds.builder(name, **where)
        except tfds.core.registered.DatasetNotFoundError as error:
            raise FileNotFoundError(f"TFDS knows no data set {name!r}; {remedy}") from error
        if not builder.is_prepared():
            raise FileNotFoundError(f"no data in {builder.data_dir}; {remedy}")
    return _from_builder(
        builder,
        f"tfds:{name}",
        split,
        num_classes,
        label_names,
        keys=keys,
        root=root,
    )


def _prepare(name: str, data_dir: str | os.PathLike | None) -> str:
    """How to prepare a data set; `tfds build` would ask for apache_beam."""
    where = "" if data_dir is None else f", data_dir={os.fspath(data_dir)!r}"
    return (
        "prepare it with `import tensorflow_datasets as tfds; "
        f"tfds.builder({name!r}{where}, file_format='array_record').download_and_prepare()`"
    )


def _keys_of(source: str, spec: str) -> tuple[str, Keys]:
    """``NAME[?video=KEY&label=KEY&captions=KEY]`` -> name and keys."""
    name, _, query = spec.partition("?")
    keys = _PLAIN
    for key, value in urllib.parse.parse_qsl(query, keep_blank_values=True):
        if key not in Keys._fields or not value:
            raise ValueError(
                f"{key}={value!r} in {source!r}: only video=KEY, label=KEY and captions=KEY exist"
            )
        keys = keys._replace(**{key: value})
    return name, keys


def _from_builder(
    builder: Any,
    name: str,
    split: str,
    num_classes: int | None,
    label_names: Sequence[str] | None,
    *,
    keys: Keys = _PLAIN,
    root: str = "",
) -> TfdsCatalog:
    """Checks the features of a prepared builder and opens one of its splits."""
    from data_pipelines.demo.builder import quiet

    _check_features(builder.info.features, name, keys)
    label = builder.info.features[keys.label]
    own = tuple(label.names) if getattr(label, "names", None) else None
    count, names = class_count(name, own, num_classes, label_names)
    if count is None:
        raise ValueError(f"{name} does not say how many classes it has; pass num_classes")
    with quiet():
        try:
            source = builder.as_data_source(split)
        except NotImplementedError as error:
            raise ValueError(
                f"{name} in {builder.data_dir} is stored as {builder.info.file_format.value}, "
                f"which has no random access; {_prepare(builder.info.name, builder.data_dir)} "
                "in another data_dir"
            ) from error
    return TfdsCatalog(
        source, f"{name}/{split}", num_classes=count, label_names=names, keys=keys, root=root
    )


def _check_features(features: Any, name: str, keys: Keys) -> None:
    import tensorflow_datasets as tfds

    for key in keys:
        if key is not None and key not in features:
            raise ValueError(
                f"{name} has no feature {key!r}, but {sorted(features)}; "
                "choose with tfds:NAME?video=KEY&label=KEY"
            )
    video, label = features[keys.video], features[keys.label]
    if isinstance(video, tfds.features.Video):
        raise ValueError(
            f"feature {keys.video!r} of {name} is a features.Video: TFDS stores it as one image "
            "per frame, not as an encoded video. Store the file's bytes (or its path) instead, in "
            "features.Text() or features.Tensor(shape=(), dtype=np.object_)"
        )
    if video.shape != () or video.np_dtype not in (np.object_, np.str_, np.bytes_):
        raise ValueError(f"feature {keys.video!r} of {name} holds no bytes or path, but {video!r}")
    if label.shape != () or not np.issubdtype(label.np_dtype, np.integer):
        raise ValueError(f"feature {keys.label!r} of {name} is no class number, but {label!r}")
    captions = None if keys.captions is None else features[keys.captions]
    if isinstance(captions, tfds.features.Sequence):
        captions = captions.feature
    if not (captions is None or isinstance(captions, tfds.features.Text)):
        raise ValueError(
            f"feature {keys.captions!r} of {name} is no text and no sequence of texts, but "
            f"{captions!r}"
        )


def _is_path(value: bytes) -> bool:
    """Whether a TFDS string is a path and not a video: no container is short printable text."""
    if len(value) > 4096 or b"\0" in value:
        return False
    try:
        return value.decode().isprintable()
    except UnicodeDecodeError:
        return False
