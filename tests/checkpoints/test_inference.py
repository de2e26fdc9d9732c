"""Inference checkpoints: what is saved comes back; what is no checkpoint is named."""

import json
import shutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxjax
from fluxjax.checkpoints import inference as checkpoint_io

FIELDS = {"width": 16, "depth": 1, "num_heads": 2, "pooled": 16, "pool_heads": 2}
VIDEO = np.random.default_rng(0).standard_normal((1, 2, 28, 28, 3), np.float32)


def flux(**fields):
    return fluxjax.create_model(
        "fluxvit_ti14", 3, **(FIELDS | {"grid": (2, 2, 2), "budgets": (8, 4)} | fields)
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints") / "deep" / "model"
    model = flux()
    variables = jax.jit(model.init)(jax.random.key(0), VIDEO)
    fluxjax.save(folder, model, variables, labels=["up", "down", "left"])
    return folder, model, variables


@pytest.mark.slow
def test_the_round_trip_is_exact(saved):
    folder, model, variables = saved
    found, arrays = fluxjax.load(folder)
    assert found == model and isinstance(hash(found), int)  # jit needs the hash
    assert type(found.grid) is tuple and type(found.budgets) is tuple
    assert jax.tree.structure(arrays) == jax.tree.structure(variables)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b, strict=True), arrays, variables)
    np.testing.assert_array_equal(
        jax.jit(found.apply)(arrays, VIDEO), jax.jit(model.apply)(variables, VIDEO)
    )
    about = checkpoint_io.read_architecture(folder)
    assert about.labels == ("up", "down", "left") and about.version == fluxjax.__version__
    assert [path.name for path in folder.parent.iterdir()] == ["model"], "scratch folders remain"


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("internvideo2_s14", FIELDS | {"grid": (2, 2, 2)}),
        ("fluxvit_b14", {"dtype": jnp.bfloat16, "layer_scale": None, "gelu": "exact"}),
        ("fluxvit_s14", {"attention": "xla"}),  # as all were stored before there was "auto"
        ("evl_b16", {"attention": "blockwise", "tower_gelu": "exact"}),
    ],
)
def test_fields_of_other_models(tmp_path, name, fields):
    model = fluxjax.create_model(name, **fields)
    variables = {"params": {"x": jnp.ones((2, 3), jnp.bfloat16)}, "batch_stats": {"m": jnp.ones(2)}}
    fluxjax.save(tmp_path / "m", model, variables)
    found, arrays = fluxjax.load(tmp_path / "m")
    assert found == model and found.dtype == model.dtype
    assert found.attention == fields.get("attention", "auto")
    assert arrays["params"]["x"].dtype == jnp.bfloat16 and set(arrays) == set(variables)


def test_sharded_arrays_are_stored_without_their_placement(tmp_path):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    variables = {"params": {"x": jax.device_put(jnp.arange(16.0), spread)}}
    fluxjax.save(tmp_path / "m", flux(), variables)
    found = fluxjax.load(tmp_path / "m")[1]["params"]["x"]
    assert len(found.sharding.device_set) == 1
    np.testing.assert_array_equal(found, np.arange(16.0))


def test_nothing_is_overwritten_unasked(saved, tmp_path):
    _, model, variables = saved
    target = tmp_path / "model"
    target.mkdir()
    fluxjax.save(target, model, variables)  # an empty folder is fine
    with pytest.raises(FileExistsError, match="holds a checkpoint already"):
        fluxjax.save(target, model, variables)
    other = flux(drop_path=0.5)
    fluxjax.save(target, other, variables, overwrite=True)
    assert fluxjax.load(target)[0] == other
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="is no inference checkpoint"):
        fluxjax.save(tmp_path / "notes", model, variables, overwrite=True)
    assert (tmp_path / "notes" / "thesis.txt").exists()


def test_a_failed_write_leaves_the_old_checkpoint(saved, tmp_path, monkeypatch):
    _, model, variables = saved
    fluxjax.save(tmp_path / "m", model, variables)

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(checkpoint_io.ocp.StandardCheckpointer, "save", full)
    with pytest.raises(OSError, match="no space"):
        fluxjax.save(tmp_path / "m", flux(drop_path=0.5), variables, overwrite=True)
    assert fluxjax.load(tmp_path / "m")[0] == model
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_what_cannot_be_stored(tmp_path):
    with pytest.raises(ValueError, match="Dense is not among the models"):
        fluxjax.save(tmp_path / "m", nn.Dense(3), {})
    with pytest.raises(ValueError, match="2 labels for a model of 3 classes"):
        fluxjax.save(tmp_path / "m", flux(), {}, labels=["a", "b"])
    with pytest.raises(ValueError, match="field of FluxViT cannot be stored"):
        fluxjax.save(tmp_path / "m", flux().clone(gelu=np.tanh), {})
    assert not any(tmp_path.iterdir())


def change(value, *path):
    def apply(stored):
        for key in path[:-1]:
            stored = stored[key]
        stored[path[-1]] = value

    return apply


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (change("FluxVIT", "model", "class"), "unknown class 'FluxVIT'; known: .*'FluxViT'"),
        (change(1, "model", "fields", "widht"), r"unknown fields \['widht'\] of FluxViT"),
        (change("float33", "model", "fields", "dtype"), "does not describe a FluxViT.*float33"),
        (change(2, "format"), "has format 2, this fluxjax reads 1"),
        (lambda stored: stored.pop("model"), "is damaged: KeyError: 'model'"),
        (lambda stored: stored.clear(), "is damaged"),
    ],
)
def test_damaged_architectures_are_named(tmp_path, edit, message):
    fluxjax.save(tmp_path / "m", flux(), {"params": {"x": np.ones(1)}})
    path = tmp_path / "m" / "architecture.json"
    stored = json.loads(path.read_text())
    edit(stored)
    path.write_text(json.dumps(stored))
    with pytest.raises(fluxjax.WeightsError, match=message):
        fluxjax.load(tmp_path / "m")


def test_missing_and_damaged_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder"):
        fluxjax.load(tmp_path / "nowhere")
    with pytest.raises(fluxjax.WeightsError, match="is no inference checkpoint"):
        fluxjax.load(tmp_path)
    fluxjax.save(tmp_path / "m", flux(), {"params": {"x": np.ones(1)}})
    (tmp_path / "m" / "architecture.json").write_text("{")
    with pytest.raises(fluxjax.WeightsError, match="is damaged: JSONDecodeError"):
        fluxjax.load(tmp_path / "m")
    fluxjax.save(tmp_path / "n", flux(), {"params": {"x": np.ones(1)}})
    for path in (tmp_path / "n" / "weights").iterdir():
        path.unlink() if path.is_file() else shutil.rmtree(path)
    with pytest.raises(fluxjax.WeightsError, match="is missing.*; write the checkpoint again"):
        fluxjax.load(tmp_path / "n")


def test_a_flipped_bit_in_any_file_is_named(tmp_path):
    fluxjax.save(tmp_path / "m", flux(), {"params": {"x": np.arange(50.0, dtype=np.float32)}})
    files = sorted(path for path in (tmp_path / "m").rglob("*") if path.stat().st_size)
    rng = np.random.default_rng(0)
    for path in (path for path in files if path.is_file()):
        whole = path.read_bytes()
        changed = bytearray(whole)
        changed[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        path.write_bytes(bytes(changed))
        with pytest.raises(fluxjax.WeightsError, match=path.name):
            fluxjax.load(tmp_path / "m")
        path.write_bytes(whole)
    assert (fluxjax.load(tmp_path / "m")[1]["params"]["x"] == np.arange(50.0)).all()


USAGE = fluxjax.Usage("dense:4", ("2x28", "4x28"), (8, 4), clips=3, crops=2, frames=(2, 4))


def test_how_it_was_run_travels_with_the_folder(tmp_path):
    variables = {"params": {"x": jnp.ones(3)}}
    fluxjax.save(tmp_path / "m", flux(), variables, usage=USAGE)
    shutil.move(tmp_path / "m", tmp_path / "elsewhere")
    assert checkpoint_io.read_architecture(tmp_path / "elsewhere").usage == USAGE
    stored = json.loads((tmp_path / "elsewhere" / "architecture.json").read_text())
    assert stored["pixels"] == {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    fluxjax.save(tmp_path / "n", flux(), variables)
    assert checkpoint_io.read_architecture(tmp_path / "n").usage is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"usage": {"sampling": 3, "grids": ["2x28"]}}, "are no names"),
        ({"usage": {"sampling": "sparse", "grids": []}}, "are no names"),
        ({"usage": {"sampling": "sparse", "grids": ["2x28"], "clips": 0}}, "a count of"),
        ({"usage": {"grids": ["2x28"]}}, "sampling"),
        ({"usage": [1]}, "damaged"),
        ({"pixels": {"mean": [0.5] * 3, "std": [0.5] * 3}}, "for pixels of {'mean': .0.5"),
    ],
)
def test_a_wrong_usage_is_named(saved, tmp_path, change, message):
    shutil.copytree(saved[0], tmp_path / "m")
    path = tmp_path / "m" / "architecture.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(fluxjax.WeightsError, match=message):
        checkpoint_io.read_architecture(tmp_path / "m")


def test_paths_as_users_write_them(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    fluxjax.save("~/m", flux(), {"params": {"x": jnp.ones(3)}})
    assert (tmp_path / "m" / "architecture.json").is_file() and not (tmp_path / "~").exists()
    np.testing.assert_array_equal(fluxjax.load("~/m")[1]["params"]["x"], np.ones(3))
    for call in (fluxjax.load, lambda path: fluxjax.save(path, flux(), {})):
        with pytest.raises(ValueError, match="gs://a/b is remote"):
            call("gs://a/b")
    assert not (tmp_path / "gs:").exists()
