"""Where the members of a tar file lie, by its headers alone; reading one at its place."""

from __future__ import annotations

import os
import tarfile
from typing import NamedTuple

from data_pipelines.reading.errors import VideoError

_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_BLOCK = 512


class Member(NamedTuple):
    """A file in a tar file: its name there, and where its bytes are."""

    name: str
    offset: int
    size: int


def tar_members(path: str) -> tuple[list[Member], bool]:
    """The files in a tar file in their order, and whether the file has its end mark.

    Folders and links are left out. Reads the headers only.

    Args:
      path: local.

    Raises:
      OSError: if the file cannot be opened.
      ValueError: if it is compressed, no tar file, cut short or damaged.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        start = file.read(6)
    for magic, kind in _COMPRESSED.items():
        if start.startswith(magic):
            raise ValueError(
                f"{path} is compressed ({kind}) and so has no random access; unpack it to a plain "
                ".tar, which is hardly larger: videos are compressed already"
            )
    try:
        with tarfile.open(path, "r:") as archive:
            infos = list(archive)
            end = archive.offset  # tarfile stops without a word at a header that is none
    except tarfile.TarError as error:
        raise ValueError(f"{path} is no whole tar file: {error}; write it again") from error
    for info in infos:
        if info.isreg() and info.offset_data + info.size > size:
            raise ValueError(f"{path} is cut short inside {info.name}; write it again")
        if info.issparse():
            raise ValueError(f"{path}: {info.name} is a sparse file; write it without --sparse")
    with open(path, "rb") as file:
        file.seek(end)
        mark = file.read(_BLOCK)
    if mark.strip(b"\0"):
        raise ValueError(f"{path} is damaged at byte {end}; write it again")
    members = [Member(info.name, info.offset_data, info.size) for info in infos if info.isreg()]
    return members, len(mark) == _BLOCK


def read_member(path: str, member: Member) -> bytes:
    """The bytes of a member. From any thread: every call opens the file for itself.

    Raises:
      VideoError: if the file cannot be read, or has become shorter.
    """
    name = f"{path}/{member.name}"
    try:
        with open(path, "rb") as file:
            file.seek(member.offset)
            content = file.read(member.size)
    except OSError as error:
        raise VideoError(name, str(error)) from error
    if len(content) < member.size:
        raise VideoError(name, "the tar file has become shorter since it was opened")
    return content
