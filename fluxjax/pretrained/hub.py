"""Files and repositories of the Hugging Face hub, through its client and in its cache."""

import os
import pathlib
import re
from types import ModuleType

from fluxjax.pretrained.download import check_sha256


def hub_path(source: str, sha256: str | None = None) -> pathlib.Path:
    """Where ``hf:OWNER/REPO[/FILE][@REVISION]`` lies once it is fetched.

    The client resumes, keeps files in its cache ($HF_HOME), goes by $HF_ENDPOINT, $HF_TOKEN and
    $HF_HUB_OFFLINE. A file that the hub keeps by its sha256 is checked against it, here.

    Args:
      source: a file, or without one the whole repository.
      sha256: of the file.

    Raises:
      ValueError: if the source is not of that form, or the client is not installed.
      FileNotFoundError: if the hub has no such thing.
      ConnectionError: if the hub does not answer and the cache does not have it.
      WeightsError: if the checksum is another one.
    """
    repo, file, revision = parse(source)
    if sha256 is not None and file is None:
        raise ValueError(f"{source} is a repository; a sha256 is of one file: hf:OWNER/REPO/FILE")
    client = _client(source)
    where = {"revision": revision, "endpoint": os.environ.get("HF_ENDPOINT")}
    from huggingface_hub import errors

    try:
        if file is None:
            return pathlib.Path(client.snapshot_download(repo, **where))
        path = pathlib.Path(client.hf_hub_download(repo, file, **where))
    except errors.LocalEntryNotFoundError as error:  # also of a snapshot that is not whole
        raise ConnectionError(
            f"{source} is not in the cache, and the hub cannot be reached; without a network, give "
            "the path of a file or folder"
        ) from error
    except (
        errors.RepositoryNotFoundError,
        errors.RevisionNotFoundError,
        errors.RemoteEntryNotFoundError,
    ) as error:
        raise FileNotFoundError(
            f"{source}: the hub has no such repository, revision or file, or keeps it private: "
            "correct the name, or set $HF_TOKEN"
        ) from error
    except errors.HFValidationError as error:
        raise ValueError(f"{source}: {error}") from error
    except OSError as error:
        told = str(error).strip().partition("\n")[0]
        raise ConnectionError(f"{source} cannot be fetched: {told}; call again") from error
    blob = path.resolve()  # its name is the file's sha256 where the hub keeps that
    known = blob.name if re.fullmatch(r"[0-9a-f]{64}", blob.name) else None
    for digest in {known, sha256} - {None}:
        check_sha256(blob, digest, source)
    return path


def parse(source: str) -> tuple[str, str | None, str | None]:
    """``hf:OWNER/REPO[/FILE][@REVISION]`` -> (OWNER/REPO, FILE, REVISION).

    Raises:
      ValueError: on anything else.
    """
    whole, _, revision = source.removeprefix("hf:").partition("@")
    owner, _, rest = whole.partition("/")
    repo, _, file = rest.partition("/")
    if not (owner and repo) or ("@" in source and not revision):
        raise ValueError(
            f"{source!r} must be hf:OWNER/REPO, hf:OWNER/REPO/FILE or either @REVISION"
        )
    return f"{owner}/{repo}", file or None, revision or None


def _client(source: str) -> ModuleType:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ValueError(
            f"{source} needs the package huggingface_hub: pip install 'fluxjax[hub]', or download "
            "it and give the path"
        ) from error
    return huggingface_hub
