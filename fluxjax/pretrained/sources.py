"""Where weights come from: a path, an address or a repository of the hub -> a local path."""

import hashlib
import os
import pathlib
import re
import urllib.parse

from fluxjax.pretrained.download import check_sha256, download
from fluxjax.pretrained.hub import hub_path

CACHE = "FLUXJAX_WEIGHTS_DIR"
_FORMS = "a file, a folder, https://.., hf:OWNER/REPO or hf:OWNER/REPO/FILE"


def fetch(source: str | os.PathLike) -> pathlib.Path:
    """The local file or folder of a source, downloaded where it is not there yet.

    Args:
      source: a path; ``https://HOST/FILE`` (kept in $FLUXJAX_WEIGHTS_DIR, by default
        ~/.cache/fluxjax/weights); or ``hf:OWNER/REPO[/FILE][@REVISION]``, which needs
        `pip install fluxjax[hub]`. ``#sha256=HEX`` at the end of one that is a file checks it.

    Raises:
      FileNotFoundError: if there is no such thing.
      ConnectionError: if it cannot be fetched.
      ValueError: if the source is of no known form.
      WeightsError: if the checksum is another one; a downloaded file is removed then.
    """
    text = os.path.expanduser(os.fspath(source))
    where, mark, sha256 = text.partition("#sha256=")
    if mark and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise ValueError(f"{text}: a sha256 has 64 hexadecimal digits")
    sha256 = sha256.lower() or None
    if where.startswith("hf:"):
        return hub_path(where, sha256)
    scheme, separator, _ = where.partition("://")
    if separator:
        return _from_web(where, scheme.lower(), sha256)
    path = pathlib.Path(where)
    if not where:
        raise ValueError(f"{text!r} names no weights; they come from {_FORMS}")
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}; weights come from {_FORMS}")
    if sha256 is not None:
        check_sha256(path, sha256, where, remove=False)
    return path


def is_remote(source: str) -> bool:
    """Whether a source is one that has to be fetched."""
    return source.startswith(("hf:", "https://", "http://"))


def cache_folder() -> pathlib.Path:
    """Where downloads are kept."""
    folder = os.environ.get(CACHE) or "~/.cache/fluxjax/weights"
    return pathlib.Path(os.path.expanduser(folder))


def _from_web(url: str, scheme: str, sha256: str | None) -> pathlib.Path:
    if scheme not in ("http", "https"):
        raise ValueError(f"{url}: {scheme}:// is not read here; weights come from {_FORMS}")
    if scheme == "http" and sha256 is None:
        raise ValueError(f"{url} is not encrypted: use https, or add #sha256= and its checksum")
    name = urllib.parse.unquote(urllib.parse.urlsplit(url).path).rpartition("/")[2]
    if not name or name in (".", ".."):
        raise ValueError(f"{url} names no file")
    # Files of one name at several addresses are different files.
    target = cache_folder() / hashlib.sha256(url.encode()).hexdigest()[:16] / name
    download(url, target, sha256)
    return target
