import json
import os
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest

from fluxjax.weight_files.file_bytes import FileBytes
from fluxjax.weight_files.readers import WeightsError, read_weights, write_safetensors
from fluxjax.weight_files.safetensors_files import read_safetensors
from tests.convert.make_data import DTYPES, EXOTIC, values


def safetensors_bytes(header, body=b"", length=None):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(raw) if length is None else length).to_bytes(8, "little") + raw + body


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


ENTRY = json.dumps(entry()).encode()


MUTILATED_SAFETENSORS = {
    "huge length": safetensors_bytes({"a": entry()}, bytes(4), 2**63),
    "length past the end": safetensors_bytes({"a": entry()}, bytes(4), 500),
    "length too short": safetensors_bytes({"a": entry()}, bytes(4), 9),
    "zero length": bytes(8) + b"{}",
    "no json": safetensors_bytes(b"{'a': 1}", bytes(4)),
    "no utf-8": safetensors_bytes(b'{"\xff": 1}', bytes(4)),
    "an array": bytes([2, 0, 0, 0, 0, 0, 0, 0]) + b"[]" + bytes(4),
    "deep json": safetensors_bytes(b'{"a":' + b"[" * 100_000, bytes(4)),
    "endless number": safetensors_bytes(b'{"a":' + b"9" * 5000 + b"}", bytes(4)),
    "same name twice": safetensors_bytes(b'{"a":%s,"a":%s}' % (ENTRY, ENTRY), bytes(4)),
    "same key twice": safetensors_bytes(
        b'{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4)
    ),
    "unknown dtype": safetensors_bytes({"a": entry("F33")}, bytes(4)),
    "dtype not text": safetensors_bytes({"a": entry(["F32"])}, bytes(4)),
    "missing key": safetensors_bytes({"a": {"dtype": "F32", "shape": [1]}}, bytes(4)),
    "extra key": safetensors_bytes({"a": entry() | {"b": 1}}, bytes(4)),
    "entry not an object": safetensors_bytes({"a": 3}, bytes(4)),
    "wrong size": safetensors_bytes({"a": entry(shape=(2,))}, bytes(4)),
    "negative size": safetensors_bytes({"a": entry(shape=(-1, -1))}, bytes(4)),
    "fractional size": safetensors_bytes({"a": entry(shape=(1.0,))}, bytes(4)),
    "true as size": safetensors_bytes({"a": entry(shape=(True,))}, bytes(4)),
    "absurd size": safetensors_bytes({"a": entry(shape=(0, 2**62), offsets=(0, 0))}),
    "many axes": safetensors_bytes({"a": entry(shape=(1,) * 100)}, bytes(4)),
    "three offsets": safetensors_bytes({"a": entry(offsets=(0, 4, 4))}, bytes(4)),
    "offsets reversed": safetensors_bytes({"a": entry(offsets=(4, 0))}, bytes(4)),
    "offsets past the end": safetensors_bytes({"a": entry(offsets=(4, 8))}, bytes(4)),
    "overlap": safetensors_bytes({"a": entry(), "b": entry()}, bytes(4)),
    "gap": safetensors_bytes({"a": entry(), "b": entry(offsets=(8, 12))}, bytes(12)),
    "data left over": safetensors_bytes({"a": entry()}, bytes(5)),
    "data cut off": safetensors_bytes({"a": entry()}, bytes(3)),
    "metadata not text": safetensors_bytes({"__metadata__": {"a": 1}, "a": entry()}, bytes(4)),
    "no tensors": safetensors_bytes({}),
    "not a number": safetensors_bytes(b'{"a":NaN}', bytes(4)),
}


@pytest.mark.parametrize("case", MUTILATED_SAFETENSORS)
def test_mutilated_safetensors(tmp_path, case):
    path = tmp_path / "w.safetensors"
    path.write_bytes(MUTILATED_SAFETENSORS[case])
    with pytest.raises(WeightsError):
        read_weights(path)


def test_safetensors_round_trip(tmp_path):
    expected = values()
    arrays = {
        name: np.asarray(expected[name]).astype(getattr(ml_dtypes, name, name))
        for name in DTYPES + EXOTIC + ("bool",)
    }
    arrays |= {
        "view": expected["view"],
        "swapped": np.arange(3, dtype=">i4"),
        "scalar": expected["scalar"],
        "empty": expected["empty"],
        "module.é": np.ones(1, ml_dtypes.bfloat16),
    }
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"old")
    write_safetensors(path, arrays, {"family": "fluxvit"})
    read = read_weights(path)
    assert set(read) == set(arrays)
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype.newbyteorder("=")
        assert read[name].shape == array.shape
        np.testing.assert_array_equal(read[name].astype(np.float64), array.astype(np.float64))
    content = path.read_bytes()
    assert int.from_bytes(content[:8], "little") % 8 == 0 and b'"family":"fluxvit"' in content
    write_safetensors(path, dict(reversed(arrays.items())), {"family": "fluxvit"})
    assert path.read_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


@pytest.mark.parametrize(
    ("mapping", "metadata"),
    [
        ({"a": np.array([None])}, None),
        ({"a": np.ones(1, np.complex64)}, None),
        ({"__metadata__": np.ones(1)}, None),
        ({1: np.ones(1)}, None),
        ({"a": np.ones(1)}, {"epoch": 3}),
    ],
)
def test_unwritable_content_leaves_the_old_file(tmp_path, mapping, metadata):
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"old")
    with pytest.raises(WeightsError):
        write_safetensors(path, mapping, metadata)
    assert path.read_bytes() == b"old"


def test_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", full)
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="disk full"):
        write_safetensors(path, {"a": np.ones(3)})
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("w.safetensors", b"old")]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, save):
    arrays = {
        "a": np.arange(6.0).reshape(2, 3),
        "f": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "swapped": np.arange(3, dtype=">f4"),
        "flag": np.array([True, False]),
        "scalar": np.array(2.5),
        "empty": np.zeros((0, 3)),
        "half": np.ones((1, 2), np.float16),
    }
    save(tmp_path / "w.npz", note=np.array("text"), **arrays)
    read = read_weights(tmp_path / "w.npz")
    assert set(read) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].dtype == array.dtype.newbyteorder("=")
        assert read[name].flags.c_contiguous


def npy(header):
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY\x01\x00",
        npy(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n") + bytes(8),
        npy(b"{'descr': '|V2', 'fortran_order': False, 'shape': (1,), }\n") + bytes(2),
        npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n") + bytes(4),
        npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999,), }\n") + bytes(4),
        npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }\n") + bytes(4),
        npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (1 2), }\n") + bytes(8),
        npy(b"{'descr': '<f4', 'fortran_order': 1, 'shape': (1,), }\n") + bytes(4),
        npy(b"__import__('os')") + bytes(4),
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff",
    ],
)
def test_mutilated_npz(tmp_path, content):
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        archive.writestr("a.npy", content)
    with pytest.raises(WeightsError):
        read_weights(tmp_path / "w.npz")


def test_file_that_shrinks_is_an_error_not_a_crash(tmp_path):
    path = tmp_path / "w.safetensors"
    write_safetensors(path, {"a": np.ones(100_000)})
    data = FileBytes(path)
    os.truncate(path, 1000)
    with pytest.raises(WeightsError, match="shorter"):
        read_safetensors(data)
