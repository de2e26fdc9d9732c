"""Weights in several files, as `save_pretrained` writes them, and what is wrong with such files."""

import json
import re

import numpy as np
import pytest

from fluxjax.weight_files.readers import WeightsError, read_weights, write_safetensors
from tests.weight_files.hand_made import FOUR, number, storage_id, tensor, text, torch_zip

STATE = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a.bias": np.arange(2, dtype=np.float32),
    "b": np.full(3, 7, np.float16),
}
FILES = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
INDEX = "model.safetensors.index.json"


def write_index(folder, **changes):
    index = {
        "metadata": {"total_size": 24 + 8 + 6},
        "weight_map": {"a.weight": FILES[0], "a.bias": FILES[1], "b": FILES[1]},
    } | changes
    (folder / INDEX).write_text(json.dumps(index))


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "saved"
    folder.mkdir()
    write_safetensors(folder / FILES[0], {"a.weight": STATE["a.weight"]})
    write_safetensors(folder / FILES[1], {"a.bias": STATE["a.bias"], "b": STATE["b"]})
    write_index(folder)
    (folder / "config.json").write_text("{}")
    return folder


def check(arrays):
    assert set(arrays) == set(STATE)
    for name, value in STATE.items():
        np.testing.assert_array_equal(arrays[name], value, strict=True)


@pytest.mark.parametrize("name", ["", INDEX, *FILES])
@pytest.mark.parametrize("indexed", [True, False])
def test_by_index_folder_or_any_shard(folder, name, indexed):
    if not indexed:
        if name == INDEX:
            return
        (folder / INDEX).unlink()
    check(read_weights(folder / name))


def test_shards_of_torch_with_a_tied_tensor(tmp_path):
    """The total counts a tied tensor once, as `save_pretrained` does."""
    names = [f"pytorch_model-0000{i}-of-00002.bin" for i in (1, 2)]
    tied = b"\x80\x02}" + text("u") + tensor() + b"s" + text("v") + tensor() + b"s."
    torch_zip(tmp_path / names[0], tied, FOUR)
    one = b"\x80\x02}" + text("w") + tensor(storage=storage_id(4)) + b"s."
    torch_zip(tmp_path / names[1], one, FOUR)
    index = tmp_path / "pytorch_model.bin.index.json"
    files = {"u": names[0], "v": names[0], "w": names[1]}
    for total in (32, 48, None):  # tied ones once; each; older writers give none
        metadata = {} if total is None else {"total_size": total}
        index.write_text(json.dumps({"metadata": metadata, "weight_map": files}))
        arrays = read_weights(tmp_path)
        assert arrays["u"] is arrays["v"]
        np.testing.assert_array_equal(arrays["w"], np.arange(4.0))
    index.write_text(json.dumps({"metadata": {"total_size": 40}, "weight_map": files}))
    with pytest.raises(WeightsError, match="tells of 40 bytes of tensors, the shards hold 32"):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    "name",
    ["model.safetensors", "pytorch_model.bin", "open_clip_pytorch_model.bin", "mine.safetensors"],
)
def test_a_folder_with_one_file(tmp_path, name):
    write_safetensors(tmp_path / name, STATE)
    (tmp_path / "config.json").write_text("{}")
    check(read_weights(tmp_path))


def test_a_folder_that_says_not_which(tmp_path):
    with pytest.raises(WeightsError, match="holds no weight file"):
        read_weights(tmp_path)
    for name in ("x.safetensors", "y.safetensors"):
        write_safetensors(tmp_path / name, STATE)
    with pytest.raises(WeightsError, match="several: x.safetensors, y.safetensors; pass one"):
        read_weights(tmp_path)
    write_safetensors(tmp_path / "model.safetensors", STATE)
    check(read_weights(tmp_path))


@pytest.mark.parametrize("indexed", [True, False])
def test_missing_shards_are_named(folder, indexed):
    (folder / FILES[1]).unlink()
    if not indexed:
        (folder / INDEX).unlink()
    with pytest.raises(WeightsError, match=f"1 of 2 shards are missing: {FILES[1]}"):
        read_weights(folder / FILES[0])


@pytest.mark.parametrize(
    "name", ["../other.safetensors", "/etc/passwd", "sub/x.safetensors", "..", "a\\b", "c:x", 3]
)
def test_an_index_names_files_beside_it_only(folder, tmp_path, name):
    write_safetensors(tmp_path / "other.safetensors", {"b": STATE["b"]})
    write_index(folder, weight_map={"a.weight": FILES[0], "b": name})
    with pytest.raises(WeightsError, match="is not the name of a file beside it"):
        read_weights(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metadata": {"total_size": 39}}, "tells of 39 bytes of tensors, the shards hold 38"),
        ({"metadata": {"total_size": "38"}}, "total_size is '38'"),
        ({"weight_map": {"a.weight": FILES[0]}, "metadata": None}, None),
        ({"weight_map": {"a.weight": FILES[0], "a.bias": FILES[0], "b": FILES[1]}},
         f"tensor 'a.bias' in {FILES[0]}, it is in {FILES[1]}"),
        ({"weight_map": {"a.weight": FILES[0], "b": FILES[1]}}, "1 tensors are in shards and not"),
        ({"weight_map": dict.fromkeys(("a.weight", "a.bias", "b", "c"), FILES[1])}, "it is in"),
        ({"weight_map": []}, "weight_map is not names to files"),
        ({"weight_map": {}}, "weight_map is not names to files"),
    ],
)  # fmt: skip
def test_an_index_that_does_not_fit(folder, changes, message):
    write_index(folder, **changes)
    if message is None:  # one shard, and no total
        assert list(read_weights(folder)) == ["a.weight"]
        return
    with pytest.raises(WeightsError, match=re.escape(message)):
        read_weights(folder)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a": 1}'])
def test_damaged_indices(folder, content):
    (folder / INDEX).write_bytes(content)
    with pytest.raises(WeightsError, match="damaged index"):
        read_weights(folder)


def test_a_tensor_in_two_shards(folder):
    write_safetensors(folder / FILES[0], {"a.weight": STATE["a.weight"], "b": STATE["b"]})
    for index in (True, False):
        with pytest.raises(WeightsError, match=f"'b' is in two shards, {FILES[0]} and {FILES[1]}"):
            read_weights(folder)
        if index:
            (folder / INDEX).unlink()


def test_a_damaged_shard_and_one_of_another_kind_are_named(folder):
    good = (folder / FILES[0]).read_bytes()
    (folder / FILES[0]).write_bytes(good[:-1])
    with pytest.raises(WeightsError, match=f"shard {FILES[0]}: damaged safetensors"):
        read_weights(folder)
    torch_zip(folder / FILES[0], b"\x80\x02" + number(3) + b".")
    with pytest.raises(WeightsError, match=f"shard {FILES[0]} is not names to tensors"):
        read_weights(folder)
