"""A folder of videos' visual tokens: a file a video, and a manifest that says what they are of.

DIRECTORY/manifest.json      the checkpoint and how it was run; the videos, each with its file
DIRECTORY/00000000.npz ..    tokens, position, grid and valid of a video, see `token_files`
"""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from fluxjax.serving.every_video import embed_every, what_was_run
from fluxjax.serving.token_files import VideoTokens, write_tokens
from fluxjax.serving.token_reader import TokenReader

MANIFEST = "manifest.json"


def write_token_folder(
    reader: TokenReader,
    videos: Sequence[Any],
    folder: str | os.PathLike,
    kind: str,
    data: Mapping[str, Any] | None,
    **options: Any,
) -> tuple[int, int]:
    """Writes the tokens of videos, each as soon as it is read; the manifest last.

    Args:
      reader: what is run.
      videos: paths, or a catalog.
      folder: to write, empty or not there.
      kind: npz or safetensors.
      data: what opens the catalog again; None: there is none.
      **options: batch_size and workers of `embed_every`.

    Returns:
      How many videos were written, and how many could not be read.

    Raises:
      FileExistsError: if there is something in the folder.
    """
    folder = pathlib.Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"--output={folder} is there already; name a folder of its own")
    folder.mkdir(parents=True, exist_ok=True)
    count = 0

    def take(tokens: VideoTokens, entry: dict[str, Any]) -> None:
        nonlocal count
        entry["file"] = f"{count:08d}.{kind}"
        write_tokens(folder / entry["file"], tokens)
        count += 1

    entries, failed = embed_every(reader, videos, take, of_data=data is not None, **options)
    told = {"data": data, "videos": entries, "failed": failed}
    text = json.dumps({"format": 1} | what_was_run(reader) | told, indent=1, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
    return len(entries), len(failed)
