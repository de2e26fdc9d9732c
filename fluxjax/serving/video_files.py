"""Videos as users name them: files, folders of videos, and addresses of other file systems."""

import os
import pathlib
from collections.abc import Sequence

from data_pipelines.reading.errors import VideoError
from data_pipelines.reading.folders import IMAGES
from data_pipelines.sources.list_files import is_video_name
from data_pipelines.sources.records import NO_LABEL, Record
from data_pipelines.sources.remote import is_remote, source_of


def file_record(path: str) -> Record | VideoError:
    """The record of a video at a path, local or remote; the `VideoError` where it is not there."""
    try:
        return Record(source_of(path), NO_LABEL, path)
    except VideoError as error:
        return error


def is_folder_of_videos(path: str | os.PathLike) -> bool:
    """Whether a path is a folder that holds videos, and is not itself one: see `predict`."""
    path = os.fspath(path)
    if is_remote(path) or not os.path.isdir(path) or is_video_name(path.rstrip("/")):
        return False
    return not any(os.path.splitext(name)[1].lower() in IMAGES for name in os.listdir(path))


def list_videos(folder: str | os.PathLike) -> list[str]:
    """Paths of the videos in a folder and its sub-folders, sorted; hidden ones are left out.

    Raises:
      ValueError: if there is none.
    """
    found = [
        str(path) for path in sorted(pathlib.Path(folder).rglob("*"))
        if is_video_name(path.name)
        and not any(part.startswith(".") or is_video_name(part)
                    for part in path.relative_to(folder).parts[:-1])
        and not path.name.startswith(".")
    ]  # fmt: skip
    if not found:
        raise ValueError(f"{folder} holds no video, such as {folder}/clip.mp4")
    return found


def listed(paths: Sequence[str]) -> list[str]:
    """Paths of videos, with those in a folder in its place.

    Raises:
      ValueError: on a folder without videos.
    """
    lists = [list_videos(path) if is_folder_of_videos(path) else [path] for path in paths]
    return [path for found in lists for path in found]
