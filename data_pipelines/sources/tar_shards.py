"""Tar files of videos as WebDataset writes them, with random access: KEY.mp4 beside KEY.cls."""

from __future__ import annotations

import collections
import glob
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from data_pipelines.sources.annotations import KEYS, entries_of
from data_pipelines.sources.labels import known_classes
from data_pipelines.sources.list_files import is_video_name
from data_pipelines.sources.path_catalog import Entry, PathCatalog
from data_pipelines.sources.records import Catalog
from data_pipelines.sources.remote import is_remote
from data_pipelines.sources.tar_index import Member, read_member, tar_members

_HELP = "a sample is KEY.mp4 with KEY.cls (label), KEY.txt (caption) or KEY.json (both, a span)"
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_IS_TAR = re.compile(r".*\.(tar(\.(gz|bz2|xz|zst))?|tgz)", re.IGNORECASE | re.DOTALL)
_SAID = ("cls", "txt", "json")  # endings of members that say something of the video

log = logging.getLogger(__name__)


class TarShards(PathCatalog):
    """The videos of tar files; a sample is what has one name up to its first dot.

    `KEY.cls` holds a class number or name, `KEY.txt` a caption, `KEY.json` an object with the keys
    of annotation files (caption, captions, start, end, label, weight). A `classes.txt` beside the
    first tar file gives the order of the classes. Headers are read once, a video when it is wanted.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        num_classes: int | None = None,
        label_names: Sequence[str] | None = None,
        training: Catalog | None = None,
    ):
        """Indexes all tar files.

        Args:
          path: of one; of several ``train-{0000..0063}.tar`` or ``train/*.tar``, in that order.
          num_classes, label_names, training: see `catalog.open_catalog`.

        Raises:
          OSError: if there is no such file.
          ValueError: if one is compressed, damaged or remote, or samples cannot be used (the first
            ten are shown).
        """
        path = os.fspath(path)
        shards = shard_paths(os.path.expanduser(path))
        self._members: list[tuple[str, Member]] = []  # (tar file, video) of every example
        entries: list[Entry] = []
        problems: list[tuple[str, str]] = []
        counts: Counter[str] = Counter()
        number, unended = 0, []
        for shard in shards:
            members, ended = tar_members(shard)
            unended += [] if ended else [shard]
            for key, sample in _samples(members).items():
                if not any(_counts(ending) for ending, _ in sample):
                    counts["samples without a video and what is said of one"] += 1
                    continue
                number += 1
                try:
                    video, row = _row(shard, key, sample, counts)
                    found = entries_of(f"sample {number}", row, counts)
                except ValueError as error:
                    problems.append((f"sample {number}", f"{shard}/{key}: {error}"))
                    continue
                entries += found
                self._members += [(shard, video)] * len(found)
        classes = known_classes(shards[0], num_classes, label_names, training)
        super().__init__(path, entries, classes, "", problems, _HELP)
        if unended:
            log.warning(
                "%d tar files have no end mark, the first is %s: samples may be missing at their "
                "ends", len(unended), unended[0],
            )  # fmt: skip
        told = [f"{count} {what}" for what, count in sorted(counts.items())]
        log.info("%s: %d videos in %d tar files%s", path, len(self), len(shards),
                 f"; left out: {'; '.join(told)}" if told else "")  # fmt: skip

    def source(self, index: int) -> bytes:
        """The bytes of video `index`.

        Raises:
          VideoError: if they cannot be read.
        """
        return read_member(*self._members[index])

    def has_file(self, index: int) -> bool:
        """Whether the tar file of video `index` is still there."""
        return os.path.exists(self._members[index][0])


def is_tar(path: str) -> bool:
    """Whether a source names tar files, by its ending."""
    return bool(_IS_TAR.fullmatch(path))


def shard_paths(pattern: str) -> list[str]:
    """The tar files that a pattern names, in order.

    Raises:
      FileNotFoundError: if there is none, or one of a range is not there.
      ValueError: if they are remote, or a range goes down.
    """
    if is_remote(pattern):
        raise ValueError(f"tar files are read locally: copy {pattern} to a disk, or mount it")
    found = _expanded(pattern)
    if len(found) == 1 and glob.has_magic(pattern) and not os.path.exists(pattern):
        found = sorted(glob.glob(pattern))
        if not found:
            raise FileNotFoundError(f"there is no tar file {pattern}")
    gone = [path for path in found if not os.path.isfile(path)]
    if gone:
        more = f" ({len(gone)} of {len(found)} are not there)" if len(found) > 1 else ""
        raise FileNotFoundError(f"there is no tar file {gone[0]}{more}")
    return found


def _expanded(pattern: str) -> list[str]:
    """``a-{00..02}.tar`` -> a-00.tar, a-01.tar, a-02.tar."""
    match = _RANGE.search(pattern)
    if match is None:
        return [pattern]
    first, last = match.groups()
    if int(last) < int(first):
        raise ValueError(f"the range {match[0]} in {pattern} goes down; write the smaller first")
    width = len(first) if first[0] == "0" else 1
    head, tail = pattern[: match.start()], pattern[match.end() :]
    numbers = (str(number).zfill(width) for number in range(int(first), int(last) + 1))
    return [path for number in numbers for path in _expanded(f"{head}{number}{tail}")]


def _samples(members: Sequence[Member]) -> dict[str, list[tuple[str, Member]]]:
    """Key -> its (ending, member); the key is the name up to the first dot after its folders."""
    samples: dict[str, list[tuple[str, Member]]] = collections.defaultdict(list)
    for member in members:
        folder, slash, name = member.name.removeprefix("./").rpartition("/")
        base, _, ending = name.partition(".")
        if base:  # not .DS_Store and the like
            samples[f"{folder}{slash}{base}"].append((ending.lower(), member))
    return samples


def _counts(ending: str) -> bool:
    """Whether a member is a video or says something of one."""
    return ending in _SAID or is_video_name(f".{ending}")


def _row(
    shard: str, key: str, sample: list[tuple[str, Member]], counts: Counter
) -> tuple[Member, dict[str, Any]]:
    """The video of a sample, and what is said of it under the keys of annotation files."""
    endings = [ending for ending, _ in sample]
    twice = [ending for ending, count in Counter(endings).items() if count > 1]
    if twice:
        raise ValueError(f"{key}.{twice[0]} is there twice; give every sample a key of its own")
    videos = [member for ending, member in sample if is_video_name(f".{ending}")]
    if len(videos) != 1:
        raise ValueError(
            f"{len(videos)} videos in one sample ({', '.join(sorted(endings))}); names are keys up "
            "to their first dot"
        )
    row: dict[str, Any] = {"video": f"{shard}/{videos[0].name}"}
    for ending, member in sample:
        if not _counts(ending):
            counts[f"members .{ending}"] += 1
        if ending not in _SAID:
            continue
        for name, value in _said(shard, ending, member).items():
            if name in row:
                raise ValueError(f"{name} is said twice, again in .{ending}; keep one")
            row[name] = value
    return videos[0], row


def _said(shard: str, ending: str, member: Member) -> dict[str, Any]:
    """What a member of a sample says."""
    try:
        text = read_member(shard, member).decode("utf-8-sig").strip()
        if ending == "cls":
            return {"label": text}
        if ending == "txt":
            return {"caption": text}
        said = json.loads(text)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f".{ending} cannot be read: {error}") from error
    if not isinstance(said, dict):
        raise ValueError(f".json must be an object, not {repr(said)[:40]}")
    # The video is this sample's; what else a tool has written is not ours.
    return {name: said[name] for name in KEYS if name in said and name not in ("video", "path")}
