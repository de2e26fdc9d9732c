"""Files that are taken for weights and are none that is read: what they are, and the remedy."""

from __future__ import annotations

from fluxjax.weight_files.errors import shown
from fluxjax.weight_files.zip_archive import ZipArchive

_READ = "torch (.pth, .pt, .bin), .safetensors and .npz are read"
_BEGINNINGS = (
    (b"version https://git-lfs", "a Git LFS pointer in place of the weights: run `git lfs pull`"),
    (b"<", "a web page or XML, as a failed download leaves it: fetch the weights again"),
    (b"\x89HDF\r\n\x1a\n", f"an HDF5 file (Keras); {_READ}"),
    (b"GGUF", f"a GGUF file; {_READ}"),
    (b"\x1f\x8b", "compressed by gzip: unpack it first"),
)


def told_by_beginning(start: bytes) -> str | None:
    """What a file is that begins like this, for an error message; None if that is not known."""
    return next((kind for beginning, kind in _BEGINNINGS if start.startswith(beginning)), None)


def unknown(start: bytes) -> str:
    """An error message on a file that begins like nothing known."""
    return f"not a weight file: it begins with {shown(start[:8])}; {_READ}"


def told_by_entries(archive: ZipArchive) -> str | None:
    """What a zip file is that holds no array of numpy's, for an error message; else None."""
    names = archive.names
    parts = {part for name in names for part in name.split("/")}
    if "archive_format" in parts or "serialized_exported_program.json" in parts:
        return (
            "a program of torch.export (.pt2), not a checkpoint; save its weights where torch is "
            "installed: torch.save(torch.export.load(path).state_dict, 'weights.pth')"
        )
    if any(name.endswith(".npy") for name in names):
        return None
    listed = ", ".join(shown(name, 40) for name in names[:3])
    return f"a zip file of neither torch nor numpy ({listed}, ..); {_READ}"
