import pickle
import tracemalloc
import zipfile

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fluxjax.weight_files.readers import (
    WeightsError,
    find_state_dict,
    load_tree,
    read_weights,
    write_safetensors,
)
from tests.convert.make_data import DATA, DTYPES, EXOTIC, values
from tests.weight_files.hand_made import FOUR, state_dict, storage_id, tensor, torch_zip

TORCH_FILES = ("zip.pth", "legacy.pth", "training.pth", "training_protocol5.pth", "script.pth")


def check_values(arrays, names):
    expected = values()
    assert set(arrays) == set(names) | {"bool", "view", "scalar", "empty", "tied", "expanded"}
    for name in names:
        assert arrays[name].dtype == np.dtype(getattr(ml_dtypes, name, name))
    for name in (*names, "bool", "view", "scalar", "empty"):
        assert arrays[name].shape == expected[name].shape
        np.testing.assert_array_equal(arrays[name].astype(np.float64), expected[name])
        assert arrays[name].flags.c_contiguous
    assert arrays["tied"] is arrays["float32"]
    np.testing.assert_array_equal(arrays["expanded"], np.full((2, 3), 7.0, np.float32))
    assert arrays["bool"].dtype == np.bool_


def test_zip_file_with_every_dtype():
    check_values(read_weights(DATA / "zip.pth"), DTYPES + EXOTIC)


@pytest.mark.parametrize("name", ["legacy.pth", "training.pth", "training_protocol5.pth"])
def test_other_torch_files(name):
    check_values(read_weights(DATA / name), DTYPES)


def test_training_checkpoint_keeps_the_rest_as_plain_data():
    tree = load_tree(DATA / "training.pth")
    assert tree["epoch"] == 3
    assert tree["args"].kind == "argparse.Namespace"
    assert tree["args"].fields == {"lr": 1e-3, "betas": (0.9, 0.98), "nested": [None, True]}
    assert tree["best"] == 76.5 and tree["best"].dtype == np.float64
    assert tree["classes"] == 400
    assert tree["milestones"] == {3: 1, 5: 1}
    assert tree["skipped"] == [] and tree["shape"] == (2, 3)
    assert tree["optimizer"]["state"][0]["step"].array() == 3.0


def test_torchscript_archive_gives_its_state_dict():
    arrays = read_weights(DATA / "script.pth")
    shapes = {name: array.shape for name, array in arrays.items()}
    assert shapes == {
        "0.proj.weight": (2, 3),
        "0.proj.bias": (2,),
        "0.steps": (3,),
        "1.weight": (2,),
        "1.bias": (2,),
    }
    np.testing.assert_array_equal(arrays["0.proj.weight"], [[0, 1, 2], [3, 4, 5]])


def test_kind_is_told_by_content_not_by_suffix(tmp_path):
    for name in ("zip.pth", "legacy.pth"):
        disguised = tmp_path / f"{name}.safetensors"
        disguised.write_bytes((DATA / name).read_bytes())
        assert "float32" in read_weights(disguised)
    write_safetensors(tmp_path / "w.pth", {"a": np.ones(3, np.float32)})
    assert list(read_weights(tmp_path / "w.pth")) == ["a"]


def test_hand_made_file_is_read(tmp_path):
    path = torch_zip(tmp_path / "w.pth", state_dict(tensor(1, (2, 2), (1, 1))), FOUR)
    np.testing.assert_array_equal(read_weights(path)["w"], [[1, 2], [2, 3]])


def test_big_endian_and_compressed_entries(tmp_path):
    big = {"0": np.arange(4, dtype=">f4").tobytes()}
    order = {"archive/byteorder": "big"}
    path = torch_zip(
        tmp_path / "w.pth", state_dict(tensor()), big, order, compression=zipfile.ZIP_DEFLATED
    )
    np.testing.assert_array_equal(read_weights(path)["w"], np.arange(4.0))


def test_changed_weights_are_noticed(tmp_path):
    content = bytearray((DATA / "zip.pth").read_bytes())
    at = content.find(np.arange(1, 7, dtype="<f4").tobytes())
    content[at] ^= 1
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(WeightsError, match="checksum"):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize("name", TORCH_FILES)
@pytest.mark.parametrize("cut", [0, 1, 7, 8, 30, 64, 200, -1, -5, -23, -60, 0.25, 0.5, 0.75])
def test_truncated_torch_files(tmp_path, name, cut):
    content = (DATA / name).read_bytes()
    end = int(len(content) * cut) if isinstance(cut, float) else cut
    path = tmp_path / "w.pth"
    path.write_bytes(content[:end])
    with pytest.raises(WeightsError):
        read_weights(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04", b"PK\x05\x06" + bytes(18), bytes(64), b"GIF89a" + bytes(64)]
    + [pickle.dumps({"a": list(range(9))}, 2), b"[section]\n{}"],
)
def test_files_of_no_known_kind(tmp_path, content):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(WeightsError, match="w.pth"):
        read_weights(tmp_path / "w.pth")


def test_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_weights(tmp_path / "none.pth")


def test_state_dict_is_found_where_training_scripts_keep_it():
    one, two = np.ones(1), np.zeros(2)
    assert find_state_dict({"a": one, "epoch": 3}) == {"a": one}
    assert find_state_dict({"model": {"b": one}, "module": {"c": two}, "d": one}) == {"c": two}
    assert find_state_dict({"state_dict": {"model": {"e": one}}}) == {"e": one}
    # A wrapper without tensors is not the state dict; a best score beside one is not either.
    assert find_state_dict({"model": {"depth": 3}, "state_dict": {"f": one}}) == {"f": one}
    assert find_state_dict({"best": one, "state_dict": {"g": two}}) == {"g": two}
    assert list(find_state_dict({"module.a": one, "module.b.c": two})) == ["a", "b.c"]
    assert list(find_state_dict({"module.a": one, "b": two})) == ["module.a", "b"]


def test_no_tensors_lists_the_keys():
    deep = {"model": {"model": {"model": {"a": np.ones(1)}}}}
    with pytest.raises(WeightsError, match="1 keys: 'model'"):
        find_state_dict(deep)
    with pytest.raises(WeightsError, match="2 keys: 'epoch', 'args'"):
        find_state_dict({"epoch": 3, "args": None})
    with pytest.raises(WeightsError, match="holds a list"):
        find_state_dict([np.ones(1)])


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("originals")
    write_safetensors(folder / "w.safetensors", {"a": np.ones((2, 3)), "b": np.arange(3)})
    np.savez_compressed(folder / "w.npz", a=np.ones((2, 3)), b=np.arange(3))
    paths = [DATA / name for name in TORCH_FILES] + [folder / "w.safetensors", folder / "w.npz"]
    return [path.read_bytes() for path in paths]


@settings(
    max_examples=200,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    which=st.integers(0, 6),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4),
    keep=st.one_of(st.just(1.0), st.floats(0, 1)),
)
def test_damaged_files_give_arrays_or_weights_error(tmp_path, originals, which, changes, keep):
    content = bytearray(originals[which])
    for place, byte in changes:
        content[int(place * len(content))] = byte
    path = tmp_path / "w.bin"
    path.write_bytes(content[: int(keep * len(content))])
    try:
        arrays = read_weights(path)
    except WeightsError:
        return
    assert arrays and all(type(array) is np.ndarray for array in arrays.values())


def test_weights_are_held_once(tmp_path):
    size = 8 * 2**20
    content = {"0": np.ones(size // 4, np.float32).tobytes()}
    whole = tensor(storage=storage_id(numel=size // 4), shape=(size // 4,))
    path = torch_zip(tmp_path / "w.pth", state_dict(whole), content)
    del content
    tracemalloc.start()
    try:
        array = read_weights(path)["w"]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert array.flags.writeable and array.sum() == size // 4
    assert peak < 1.2 * size
