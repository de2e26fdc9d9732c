import os
import pathlib
import pickle
import struct
import zipfile

import pytest

from fluxjax.weight_files.readers import WeightsError, load_tree, read_weights
from tests.weight_files.hand_made import (
    FOUR,
    beside_a_tensor,
    number,
    state_dict,
    storage_id,
    tensor,
    text,
    torch_zip,
)


@pytest.mark.parametrize(
    "value",
    [
        tensor(offset=1),
        tensor(offset=-1),
        tensor(shape=(5,)),
        tensor(shape=(2,), strides=(4,)),
        tensor(shape=(2,), strides=(-1,)),
        tensor(shape=(2**62,), strides=(0,)),
        tensor(shape=(2**35,), strides=(0,)),
        tensor(shape=(2**20, 2**20), strides=(0, 0)),
        tensor(shape=(0, 2**61), strides=(1, 1)),
        tensor(shape=(1,) * 40, strides=(1,) * 40),
        tensor(shape=(4,), strides=()),
        tensor(shape="4"),
        tensor(shape=(True, 4), strides=(1, 1)),
        tensor(storage=storage_id(numel=5)),
        tensor(storage=storage_id(numel=2**40), shape=(2**30,)),
        tensor(storage=storage_id(numel=-1)),
        tensor(storage=storage_id(key="1")),
        tensor(storage=storage_id(key="../../data.pkl")),
        tensor(storage=storage_id(kind=b"ctorch\nComplexFloatStorage\n")),
        tensor(storage=storage_id(kind=b"ctorch\nfloat32\n")),
        tensor(storage=storage_id(kind=b"ctorch.storage\nUntypedStorage\n")),
        tensor(storage=number((1, 2))),
        storage_id(kind=storage_id()),
        b"(" + text("module") + b"ctorch\nSize\n" + text("a.py") + text("x") + b"tQ",
        text("storage") + b"Q",
    ],
)
def test_wild_tensors_are_refused_before_any_allocation(tmp_path, value):
    with pytest.raises(WeightsError):
        read_weights(torch_zip(tmp_path / "w.pth", beside_a_tensor(value), FOUR))


class Harmful:
    """Pickles as a call of whatever it is given."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def attacks(sentinel):
    touch = f"open({str(sentinel)!r}, 'w')"
    system = pickle.dumps(Harmful(os.system, f"touch {sentinel}"), 2)[2:-1]
    evaluate = b"cbuiltins\neval\n(" + text(touch) + b"tR"
    chain = b"cbuiltins\ngetattr\n(cnumpy\ndtype\n" + text("__class__") + b"tR"
    return {
        "posix.system": system,
        "builtins.eval": evaluate,
        "builtins.getattr": chain,
        "__builtin__.eval": b"c__builtin__\neval\n(" + text(touch) + b"tR",
        "numpy.testing": b"cnumpy.testing._private.utils\nruntime\n)R",
        "collections.OrderedDict.__class__": b"\x80\x04"
        + text("collections")
        + text("OrderedDict.__class__")
        + b"\x93",
        "persistent id": b"(" + text("storage") + system + b"tQ",
        "__torch__.M": b"c__torch__\nM\n)\x81}b",  # only in TorchScript archives
        "pathlib.PosixPath": pickle.dumps(pathlib.PurePosixPath("a"), 2)[2:-1],
        "opcode b'i'": b"(" + text(touch) + b"ibuiltins\neval\n",
        "opcode b'o'": b"(ctorch\nSize\n" + text(touch) + b"o",
        "opcode b'\\x82'": b"\x82\x01",
        "opcode b'\\x84'": b"\x84\x01\x00\x00\x00",
    }


@pytest.mark.parametrize("name", attacks("x"))
@pytest.mark.parametrize("layout", ["zip", "legacy"])
def test_attacks_run_nothing(tmp_path, name, layout):
    sentinel = tmp_path / "ran"
    pickled = beside_a_tensor(attacks(sentinel)[name])
    path = tmp_path / "w.pth"
    if layout == "zip":
        torch_zip(path, pickled, FOUR)
    else:
        magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
        path.write_bytes(magic + pickle.dumps(1001, 2) + pickle.dumps({}, 2) + pickled)
    with pytest.raises(WeightsError) as error:
        read_weights(path)
    assert not sentinel.exists()
    assert str(path) in str(error.value)
    if "." in name and "OrderedDict" not in name and "testing" not in name:
        module, attribute = name.rsplit(".", 1)
        assert attribute in str(error.value) and "nothing from the file was run" in str(error.value)
    if name.startswith("opcode"):
        assert name in str(error.value)


def test_the_attacks_would_work_on_pickle(tmp_path):
    sentinel = tmp_path / "ran"
    pickle.loads(b"\x80\x02" + attacks(sentinel)["posix.system"] + b".")
    assert sentinel.exists()


ORDERED = b"ccollections\nOrderedDict\n"


@pytest.mark.parametrize(
    "value",
    [
        ORDERED + b"(" + number([(1, 2, 3)]) + b"tR",
        ORDERED + b"(" + number([([], 2)]) + b"tR",
        ORDERED + b"(" + number(7) + b"tR",
        ORDERED + b")R" + number(7) + b"b",  # state that is no dictionary
        ORDERED + b"}b",  # state for the name itself
        b"ctorch\nFloatStorage\n)R",  # a name that is no function
        b"ctorch\nfloat32\n)\x81",  # a name that is no class
        b"cargparse\nNamespace\n(K\x01t\x81",
        b"cargparse\nNamespace\n)\x81]b",
        b"cargparse\nNamespace\n)\x81}K\x01K\x01sb",
        b"ctorch._utils\n_rebuild_tensor_v2\n(K\x01tR",
        b"ctorch._utils\n_rebuild_tensor_v3\n)R",
        b"ctorch._utils\n_rebuild_parameter\n(NNNtR",
        b"ctorch\nSize\n(K\x01tR",
        b"c_codecs\nencode\n(" + text("x") + text("rot13") + b"tR",
        b"c_codecs\nencode\n(" + text("\u4e00") + text("latin1") + b"tR",
        b"cnumpy\ndtype\n(" + text("O") + b"tR",
        b"cnumpy\ndtype\n(" + text("V9") + b"tR",
        b"cnumpy\ndtype\n("
        + text("f8")
        + b"tR"
        + number((3, "<", None, ["a"], None, -1, -1, 0))
        + b"b",
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(" + text("f8") + b"tRC\x01xtR",
        b"}" + number((1.5,)) + b"K\x01s",  # float key
        b"}" + number(2**63) + b"K\x01s",  # key chosen for its hash
        b"})" + b"\x85" * 100_000 + b"K\x01s",  # a key whose hash would overflow the C stack
        b"K\x01K\x02s",
        b"K\x01K\x02a",
        b"}(K\x01u",
        b"u",
        b"0",
        b"h\x07",
        b"j\xff\xff\xff\xff",
        b"X\xff\xff\xff\x7f",
        b"B\xff\xff\xff\x7f",
        b"\x8e" + b"\xff" * 8,
        b"\x8d" + b"\xff" * 7 + b"\x7f",
        b"X\x01\x00\x00\x00\xff",
        b"\x80\x00",
        b"\x80\x63",
        b"K\x01K\x01\x93",
        b"(",
        b"c" + b"a" * 2000,
    ],
)
def test_pickle_tricks_are_refused(tmp_path, value):
    with pytest.raises(WeightsError):
        read_weights(torch_zip(tmp_path / "w.pth", beside_a_tensor(value), FOUR))


def test_large_memo_index_and_deep_nesting_cost_nothing(tmp_path):
    nested = tensor() + b"r\xff\xff\xff\xff" + b"s" + text("deep") + b"]" + b"\x85" * 100_000
    path = torch_zip(tmp_path / "w.pth", state_dict(nested), FOUR)
    assert list(read_weights(path)) == ["w"]


def test_build_sets_no_attribute(tmp_path):
    value = b"cargparse\nNamespace\n)\x81}" + text("set_state") + b"K\x01sb"
    tree = load_tree(torch_zip(tmp_path / "w.pth", state_dict(value), FOUR))
    assert tree["w"].fields == {"set_state": 1}
    assert callable(tree["w"].set_state)


def test_endless_torchscript_modules(tmp_path):
    module = b"\x80\x02c__torch__\nM\n)\x81q\x00}" + text("a") + b"h\x00s" + text("b") + b"h\x00sb."
    constants = {"archive/constants.pkl": b"\x80\x02)."}
    with pytest.raises(WeightsError, match="without end"):
        read_weights(torch_zip(tmp_path / "w.pth", module, extra=constants))


def test_zip_tricks_are_refused(tmp_path, monkeypatch):
    bomb = {"0": bytes(100 * 2**20)}
    wide = tensor(storage=storage_id(numel=25 * 2**20))
    path = torch_zip(
        tmp_path / "bomb.pth", state_dict(wide), bomb, compression=zipfile.ZIP_DEFLATED
    )
    with pytest.raises(WeightsError, match="bomb"):
        read_weights(path)
    path = torch_zip(tmp_path / "w.pth", state_dict(tensor()), FOUR, {"other/data.pkl": b"."})
    with pytest.raises(WeightsError, match="data.pkl"):
        read_weights(path)
    with pytest.warns(UserWarning, match="Duplicate"):
        torch_zip(tmp_path / "w.pth", state_dict(tensor()), FOUR, {"archive/data/0": b"x" * 16})
    with pytest.raises(WeightsError, match="same name"):
        read_weights(tmp_path / "w.pth")
    monkeypatch.chdir(tmp_path)
    path = torch_zip(tmp_path / "w.pth", state_dict(tensor()), FOUR, {"../../escaped": b"x"})
    before = sorted(tmp_path.parent.rglob("*"))
    assert list(read_weights(path)) == ["w"]
    assert sorted(tmp_path.parent.rglob("*")) == before
    path = torch_zip(tmp_path / "w.pth", state_dict(tensor()), FOUR, compression=zipfile.ZIP_BZIP2)
    with pytest.raises(WeightsError, match="compression 12"):
        read_weights(path)


@pytest.mark.parametrize(
    ("count", "content", "keys"),
    [
        (5, bytes(16), ["0"]),
        (3, bytes(16), ["0"]),
        (4, bytes(15), ["0"]),
        (2**63, bytes(16), ["0"]),
        (4, bytes(16), []),
        (4, bytes(16) + struct.pack("<Q", 4) + bytes(16), ["0", "0"]),
        (4, bytes(16), ["1"]),
        (4, bytes(16), [0]),
        (4, bytes(16), "0"),
    ],
)
def test_mutilated_legacy_storages(tmp_path, count, content, keys):
    short = storage_id()[:-2] + b"NtQ"  # legacy identifiers have a sixth part
    pickles = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {})]
    pickles += [state_dict(tensor(storage=short)), pickle.dumps(keys, 2)]
    path = tmp_path / "w.pth"
    path.write_bytes(b"".join(pickles) + struct.pack("<Q", count) + content)
    with pytest.raises(WeightsError):
        read_weights(path)
    pickles[-1] = pickle.dumps(["0"], 2)
    path.write_bytes(b"".join(pickles) + struct.pack("<Q", 4) + bytes(16))
    assert read_weights(path)["w"].shape == (4,)
