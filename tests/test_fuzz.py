"""Readers of files from elsewhere: whatever the bytes, they read or raise their own error.

FLUXJAX_FUZZ=2000 python -m pytest tests/test_fuzz.py tries 2000 inputs a reader.
"""

import json
import os
import pathlib
import tempfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fluxjax
from data_pipelines.sources import quarantine, video_manifest
from data_pipelines.sources.list_files import ListFile
from fluxjax.checkpoints import inference as checkpoint_io
from fluxjax.checkpoints import manifest
from fluxjax.config import stored as stored_config
from fluxjax.config.keys import base_config
from fluxjax.weight_files.readers import WeightsError, read_weights, write_safetensors

TRIES = int(os.environ.get("FLUXJAX_FUZZ", "40"))
MODELS = pathlib.Path(__file__).parent / "convert" / "data"
FUZZ = settings(
    max_examples=TRIES,
    deadline=None,
    derandomize="FLUXJAX_FUZZ" not in os.environ,  # CI tries the same inputs every time
    database=None,
    suppress_health_check=list(HealthCheck),
)


@st.composite
def spoilt(draw, whole: bytes):
    """A file with a few bytes changed, copied, inserted or cut; sometimes nothing but noise."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=300))
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 8))):
        if not data:
            break
        at = draw(st.integers(0, len(data) - 1))
        match draw(st.sampled_from(("flip", "byte", "word", "copy", "delete", "insert", "cut"))):
            case "flip":
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "byte":
                data[at] = draw(st.integers(0, 255))
            case "word":
                data[at : at + 4] = draw(
                    st.sampled_from((b"\xff" * 4, bytes(4), b"\xff\xff\xff\x7f"))
                )
            case "copy":
                start = draw(st.integers(0, len(data) - 1))
                data[at : at + 16] = data[start : start + 16]
            case "delete":
                del data[at : at + draw(st.integers(1, 40))]
            case "insert":
                data[at:at] = draw(st.binary(max_size=12))
            case "cut":
                del data[at:]
    return bytes(data)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


@st.composite
def spoilt_json(draw, whole: bytes):
    """JSON whose one value, at any depth, is replaced; or a file with spoilt bytes."""
    if draw(st.booleans()):
        return draw(spoilt(whole))
    tree = json.loads(whole)
    node = tree
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            break
        key = draw(st.sampled_from(keys))
        if isinstance(node[key], dict | list) and node[key] and draw(st.integers(0, 3)):
            node = node[key]
            continue
        if isinstance(node, dict) and draw(st.booleans()):
            del node[key]
        else:
            node[key] = draw(JSON_VALUES)
        break
    return json.dumps(tree).encode()


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory() as name:
        inner = pathlib.Path(name) / "inner"
        inner.mkdir()
        yield inner


def weight_files(folder):
    """A valid file of every kind that `read_weights` reads."""
    arrays = {"a": np.ones((2, 3), np.float32), "b": np.arange(3)}
    write_safetensors(folder / "w.safetensors", arrays)
    np.savez(folder / "w.npz", **arrays)
    np.savez_compressed(folder / "z.npz", **arrays)
    small = [path for path in sorted(MODELS.glob("*.*")) if path.stat().st_size < 30_000]
    return [*small, folder / "w.safetensors", folder / "w.npz", folder / "z.npz"]


def test_weights(folder):
    contents = {path.name: path.read_bytes() for path in weight_files(folder)}
    assert any(name.endswith((".pth", ".pt")) for name in contents)
    read, target = [], folder / "fuzzed"

    @FUZZ
    @given(st.data())
    def check(data):
        name = data.draw(st.sampled_from(sorted(contents)))
        target.write_bytes(data.draw(spoilt(contents[name])))
        try:
            arrays = read_weights(target)
        except WeightsError as error:
            assert str(target) in str(error)
            return
        assert all(isinstance(value, np.ndarray) for value in arrays.values())
        read.append(name)

    target.touch()
    before = sorted(folder.parent.rglob("*"))
    check()
    assert sorted(folder.parent.rglob("*")) == before, "a file escaped"


def test_list_files(folder):
    whole = b'# a list\nvideos/a b.mp4 3\n"q.mp4" 0.5 1.5 2\nc.mp4 1e-3 2 0\n'
    path = folder / "list.txt"

    @FUZZ
    @given(spoilt(whole) | st.text(max_size=200).map(str.encode), st.sampled_from([None, ","]))
    def check(data, separator):
        path.write_bytes(data)
        try:
            catalog = ListFile(path, separator=separator)
        except ValueError as error:
            assert str(path) in str(error)
            return
        records = [catalog[index] for index in range(len(catalog))]
        assert records and all(0 <= r.label < catalog.num_classes for r in records)
        assert all(r.start is None or 0 <= r.start < r.end for r in records)

    check()


def test_video_manifests(folder):
    path = folder / "videos.jsonl"
    entry = video_manifest.Entry("a.mp4", None, 10, "0" * 64, 3, 25.0, 0.12, 8, 6, "h264", 3)
    video_manifest.write([entry], path)
    whole = path.read_bytes()

    @FUZZ
    @given(spoilt_json(whole))
    def check(data):
        path.write_bytes(data)
        try:
            entries = video_manifest.read(path)
        except ValueError as error:
            assert str(path) in str(error)
            return
        assert all(isinstance(name, str) for name in entries)

    check()


def test_the_quarantine(folder):
    path = folder / "quarantine.jsonl"
    whole = b'{"video": "a", "reason": "slow", "timed_out": true, "time": "now"}\n'

    @FUZZ
    @given(spoilt_json(whole))
    def check(data):
        path.write_bytes(data)
        quarantine.BadVideos(1.0, path).check("b")

    check()


def test_stored_configs(folder):
    path = folder / "config.json"
    stored_config.write(base_config(), path)
    whole = path.read_bytes()

    @FUZZ
    @given(spoilt_json(whole))
    def check(data):
        path.write_bytes(data)
        try:
            config = stored_config.get_config(str(path))
        except ValueError as error:
            assert str(path) in str(error)
            return
        assert set(config) == set(base_config())

    check()


def test_manifests_of_checkpoints(folder):
    home = folder / "checkpoint"
    home.mkdir()
    (home / "weights").write_bytes(b"0123")
    manifest.write(home, {"a": np.ones((2, 3), np.float32)}, step=4)
    whole = (home / manifest.MANIFEST).read_bytes()

    @FUZZ
    @given(spoilt_json(whole), st.booleans())
    def check(data, forged):
        """`forged`: by somebody who also writes the right checksum."""
        (home / manifest.MANIFEST).write_bytes(data)
        signed = data if forged else whole
        (home / manifest.CHECKSUM).write_text(manifest._checksum_line(signed))
        try:
            record = manifest.verify(home)
        except manifest.DamagedError as error:
            assert str(home) in str(error)
            return
        assert forged or data == whole
        manifest.tree_problems(record["tree"], {"a": np.ones((2, 3), np.float32)})

    check()


def test_architectures(folder):
    home = folder / "model"
    model = fluxjax.create_model("fluxvit_ti14", 3)
    fluxjax.save(home, model, {"params": {"x": np.ones(1)}})
    path = home / "architecture.json"
    whole = path.read_bytes()

    @FUZZ
    @given(spoilt_json(whole))
    def check(data):
        path.write_bytes(data)
        try:
            checkpoint_io.read_architecture(home)
        except WeightsError as error:
            assert str(path) in str(error)

    check()
