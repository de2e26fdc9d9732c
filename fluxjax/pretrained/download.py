"""One file from the web: resumed where it was cut off, checked, kept."""

import contextlib
import fcntl
import hashlib
import http.client
import logging
import pathlib
import urllib.error
import urllib.request
from collections.abc import Iterator

from fluxjax.version import __version__
from fluxjax.weight_files.errors import WeightsError

TRIES = 3  # of a connection that breaks off
TIMEOUT = 30.0  # seconds without a byte
_CHUNK = 1 << 20

log = logging.getLogger(__name__)


def download(url: str, target: pathlib.Path, sha256: str | None = None) -> None:
    """Fetches a file, unless `target` is there already.

    What has come of it is kept in ``TARGET.part``; the next call goes on from there if the server
    still has the same file. Of several processes one fetches, the others wait.

    Args:
      url: http or https.
      target: where the file goes, once it is whole.
      sha256: of the file, 64 hexadecimal digits; None: not checked.

    Raises:
      FileNotFoundError: if the server has no such file.
      ConnectionError: if the server cannot be reached, refuses, or breaks off again and again.
      WeightsError: if the checksum is another one; the file is removed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    with _alone(target.with_name(target.name + ".lock")):
        if not target.exists():
            for attempt in range(1, TRIES + 1):
                try:
                    _fetch(url, part)
                    break
                except (http.client.HTTPException, OSError) as error:
                    if attempt == TRIES or isinstance(error, urllib.error.HTTPError):
                        raise _told(url, error, part) from error
                    log.warning("%s: %s; going on", url, error)
            part.replace(target)
            _validator(part).unlink(missing_ok=True)
        check_sha256(target, sha256, url)


def check_sha256(path: pathlib.Path, sha256: str | None, where: str, remove: bool = True) -> None:
    """Raises WeightsError if a file has another checksum; one that was fetched is removed."""
    if sha256 is None:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256.lower():
        gone = ", and was removed" if remove else ""
        if remove:
            path.unlink()
        raise WeightsError(
            f"{where} has sha256 {found}, not {sha256.lower()}{gone}; correct the checksum, or "
            "fetch the file again"
        )


def _fetch(url: str, part: pathlib.Path) -> None:
    """Appends to `part` what it lacks of the file.

    Raises:
      OSError, http.client.HTTPException: if it does not come, or not all of it.
    """
    request = urllib.request.Request(url, headers={"User-Agent": f"fluxjax/{__version__}"})
    known = _validator(part)
    done = part.stat().st_size if part.exists() and known.exists() else 0
    if done:
        request.add_header("Range", f"bytes={done}-")
        request.add_header("If-Range", known.read_text(encoding="ascii"))
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # the part is no beginning of that file, or all of it
            raise
        part.unlink()
        _fetch(url, part)
        return
    with answer:
        if answer.status != 206:
            done = 0
        validator = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
        known.unlink(missing_ok=True)
        if validator is not None and not validator.startswith("W/"):  # a weak one proves nothing
            known.write_text(validator, encoding="ascii")
        length = answer.headers.get("Content-Length")
        log.info("%s: %s bytes%s", url, length or "?", f" after {done}" if done else "")
        came = 0
        with part.open("ab" if done else "wb") as file:
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                came += len(chunk)
    if length is not None and came < int(length):
        raise ConnectionError(f"broke off after {done + came} of {done + int(length)} bytes")


def _validator(part: pathlib.Path) -> pathlib.Path:
    """Beside a part: which version of the file it is of, as the server calls it."""
    return part.with_name(part.name + ".version")


def _told(url: str, error: Exception, part: pathlib.Path) -> OSError:
    """One line for what the web has answered."""
    if isinstance(error, urllib.error.HTTPError):
        kind = FileNotFoundError if error.code in (404, 410) else ConnectionError
        return kind(f"{url}: HTTP {error.code} {error.reason}; correct the address")
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    kept = part.stat().st_size if part.exists() else 0
    more = f"; {kept} bytes are kept, the same call goes on" if kept else ""
    return ConnectionError(
        f"{url} cannot be fetched: {reason}{more}; without a network, give the path of a file"
    )


@contextlib.contextmanager
def _alone(path: pathlib.Path) -> Iterator[None]:
    """One process at a time; the lock of one that ended is free."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
