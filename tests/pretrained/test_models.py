"""`create_model(name, pretrained=...)`: what is taken, what is new, and what is refused."""

import hashlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxjax
from fluxjax.config.keys import base_config
from fluxjax.pretrained.sources import CACHE
from fluxjax.weight_files.errors import WeightsError
from fluxjax.weight_files.readers import write_safetensors
from tests.pretrained.file_server import hub_files, serving

SIZE = dict(width=16, depth=2, num_heads=2, pooled=16, pool_heads=2, budgets=(4, 2))
TINY = SIZE | {"grid": (2, 2, 2)}
EVL = dict(width=16, depth=2, num_heads=2, patch=8, grid=(2, 2), qkv_width=16, decoder_heads=2,
           decoder_layers=1, num_frames=2)  # fmt: skip


def random_variables(model, key=0):
    """None of them degenerate."""
    video = jnp.zeros((1, 2, 2 * model.patch, 2 * model.patch, 3))
    variables = jax.jit(model.init)(jax.random.key(0), video)
    leaves, tree = jax.tree.flatten(variables)
    keys = jax.random.split(jax.random.key(key), len(leaves))
    return tree.unflatten(
        [jax.random.normal(k, x.shape) * 0.1 for k, x in zip(keys, leaves, strict=True)]
    )


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    model = fluxjax.create_model("fluxvit_ti14", num_classes=3, **TINY)
    variables = random_variables(model)
    fluxjax.save(folder / "run" / "model", model, variables)
    write_safetensors(folder / "w.safetensors", fluxjax.to_torch(model, variables))
    return folder, variables


@pytest.mark.parametrize("where", ["run", "run/model"])
def test_a_checkpoint_and_a_run(saved, where):
    folder, variables = saved
    model, found = fluxjax.create_model("fluxvit_ti14", pretrained=folder / where, **TINY)
    assert isinstance(model, nn.Module) and (model.num_classes, model.width) == (3, 16)
    same(found, variables)
    video = jnp.ones((1, 2, 28, 28, 3))
    assert jax.jit(model.apply)(found, video).shape == (1, 3)


def test_official_weights_from_a_file_and_from_the_web(saved, tmp_path, monkeypatch):
    folder, variables = saved
    file = folder / "w.safetensors"
    told = {"num_frames": 2, "num_heads": 2, "pool_num_heads": 2, "budgets": (4, 2)}
    more = TINY | {"weights_options": told}
    _, found = fluxjax.create_model("fluxvit_ti14", pretrained=file, **more)
    same(found["params"], variables["params"])
    monkeypatch.setenv(CACHE, str(tmp_path))
    content = file.read_bytes()
    with serving({"/w.safetensors": content}) as server:
        server.breaks = [len(content) // 2]
        total = hashlib.sha256(content).hexdigest()
        source = f"{server.url}/w.safetensors#sha256={total}"
        _, found = fluxjax.create_model("fluxvit_ti14", pretrained=source, **more)
    same(found["params"], variables["params"])


def test_heads_of_other_classes_are_new_by_the_key(saved):
    folder, variables = saved
    made = [
        fluxjax.create_model("fluxvit_ti14", 5, pretrained=folder / "run", key=key, **TINY)[1]
        for key in (None, jax.random.key(0), jax.random.key(1))
    ]
    heads = [found["params"]["heads_0"]["kernel"] for found in made]
    assert heads[0].shape[-1] == 5
    same(heads[0], heads[1])
    assert not np.array_equal(heads[1], heads[2])
    for found in made:
        same(found["params"]["blocks_1"], variables["params"]["blocks_1"])
        same(found["params"]["poolers_0"], variables["params"]["poolers_0"])


def test_another_grid_resamples_and_a_dtype_is_the_computations(saved):
    folder, variables = saved
    larger = SIZE | {"grid": (4, 3, 3), "dtype": jnp.bfloat16}
    model, found = fluxjax.create_model("fluxvit_ti14", pretrained=folder / "run", **larger)
    assert model.dtype == jnp.bfloat16
    table = found["params"]["position_table"]
    assert table.shape[:3] == (4, 3, 3) and table.dtype == jnp.float32
    np.testing.assert_allclose(
        table.mean((0, 1, 2)), variables["params"]["position_table"].mean((0, 1, 2)), atol=0.05
    )
    same(found["params"]["blocks_0"], variables["params"]["blocks_0"])


def test_an_evl_starts_from_a_clip_tower(tmp_path):
    size = {k: EVL[k] for k in ("width", "depth", "num_heads", "patch", "grid")}
    tower = fluxjax.create_model("clip_ti8", num_classes=None, embedding=8, **size)
    variables = random_variables(tower)
    fluxjax.save(tmp_path / "tower", tower, variables)
    _, found = fluxjax.create_model("clip_ti8", pretrained=tmp_path / "tower", embedding=8, **size)
    same(found, variables)
    with pytest.raises(ValueError, match="is of no number of classes: pass num_classes="):
        fluxjax.create_model("evl_ti8", pretrained=tmp_path / "tower", **EVL)
    model, found = fluxjax.create_model("evl_ti8", 4, pretrained=tmp_path / "tower", **EVL)
    same(found["params"]["tower"]["blocks_1"], variables["params"]["tower"]["blocks_1"])
    assert model.num_classes == 4


def test_mistakes_are_told_before_a_download(saved, tmp_path):
    folder, _ = saved
    with pytest.raises(ValueError, match="unknown model 'fluxvit_s15'"):
        fluxjax.create_model("fluxvit_s15", pretrained="https://no.such.host.invalid/w.pth")
    with pytest.raises(ValueError, match="has no field 'widht'"):
        fluxjax.create_model("fluxvit_s14", pretrained="https://x.invalid/w.pth", widht=3)
    with pytest.raises(ValueError, match="no meaning without pretrained="):
        fluxjax.create_model("fluxvit_s14", key=jax.random.key(0))
    with pytest.raises(FileNotFoundError, match="there is no .*nothing; weights come from"):
        fluxjax.create_model("fluxvit_s14", pretrained=tmp_path / "nothing")
    with pytest.raises(WeightsError, match="depth=2 not 3"):
        fluxjax.create_model("fluxvit_ti14", pretrained=folder / "run", **TINY | {"depth": 3})
    with pytest.raises(ValueError, match="leave out weights_options=.*num_frames"):
        fluxjax.create_model(
            "fluxvit_ti14", pretrained=folder / "run", weights_options={"num_frames": 2}
        )
    with pytest.raises(WeightsError, match="holds a FluxViT; a Evl starts from"):
        fluxjax.create_model("evl_ti8", pretrained=folder / "run", **EVL)


def test_a_run_starts_from_the_hub(saved, monkeypatch, tmp_path):
    constants = pytest.importorskip("huggingface_hub.constants")
    from fluxjax.main import _fetch_start

    folder = saved[0] / "run" / "model"
    files = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    config = base_config()
    config.init_from = "hf:someone/tiny"
    outer = base_config()
    outer.pretrain = config
    with serving(hub_files("someone/tiny", files)) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        _fetch_start(outer)
        local = outer.pretrain.init_from
        assert local.startswith(str(tmp_path))
        same(fluxjax.load(local)[1], saved[1])
        _, found = fluxjax.create_model("fluxvit_ti14", pretrained="hf:someone/tiny", **TINY)
        same(found, saved[1])
    outer.pretrain, outer.init_from = None, "gs://bucket/model"
    _fetch_start(outer)
    assert outer.init_from == "gs://bucket/model", "refused by the checks, with the key's name"


def test_without_pretrained_it_is_a_model_alone():
    model = fluxjax.create_model("fluxvit_ti14")
    assert isinstance(model, nn.Module) and model.num_classes == 400
    assert fluxjax.create_model("clip_ti8", None).num_classes is None
