"""Torch zip files written opcode by opcode, for what torch itself would not write."""

import pickle
import struct
import zipfile

import numpy as np


def torch_zip(path, pickled, storages=None, extra=None, **options):
    """Writes a torch zip file around a hand-made pickle."""
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr("archive/data.pkl", pickled)
        for key, content in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", content)
        for name, content in (extra or {}).items():
            archive.writestr(name, content)
    return path


def text(value):
    return pickle.BINUNICODE + struct.pack("<I", len(value)) + value.encode()


def number(value):
    return pickle.dumps(value, 2)[2:-1]


def storage_id(numel=4, key="0", kind=b"ctorch\nFloatStorage\n"):
    return b"(" + text("storage") + kind + text(key) + text("cpu") + number(numel) + b"tQ"


def tensor(offset=0, shape=(4,), strides=(1,), storage=None):
    head = b"ctorch._utils\n_rebuild_tensor_v2\n(" + (storage or storage_id())
    return head + number(offset) + number(shape) + number(strides) + b"\x89NtR"


def state_dict(value):
    return b"\x80\x02}" + text("w") + value + b"s."


def beside_a_tensor(value):
    """A file that would be read, had it not `value` as well."""
    return b"\x80\x02}" + text("ok") + tensor() + b"s" + text("w") + value + b"s."


FOUR = {"0": np.arange(4, dtype="<f4").tobytes()}
