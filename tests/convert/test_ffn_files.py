"""Files as FFN's training scripts save them: DataParallel's names, arguments, counts; no torch."""

import jax
import numpy as np
import pytest

import fluxjax
from tests.weight_files.hand_made import number, storage_id, tensor, text, torch_zip

SIZES = {
    "tsm_ti_ffn": {},
    "tea_ti_ffn": {},
    "slowfast_ti_ffn": {"layers": (1, 1)},
    "uniformer_ti_ffn": {"layers": (1, 1, 1), "widths": (16, 24, 32)},
}
LOADING = {"uniformer_ti_ffn": {"head_dim": 16}}


def drawn(name):
    """A network and variables of random numbers."""
    model = fluxjax.create_model(name, 7, **SIZES[name])
    video = jax.ShapeDtypeStruct((1, 4, 64, 64, 3), np.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), video)
    rng = np.random.default_rng(0)
    return model, jax.tree.map(lambda x: rng.standard_normal(x.shape, np.float32), shapes)


def training_file(path, state):
    """Writes what torch.save makes of a training script's checkpoint."""
    entries, storages = b"", {}
    for key, (name, value) in enumerate(state.items()):
        strides = tuple(step // value.itemsize for step in value.strides)
        kind = b"ctorch\nFloatStorage\n" if value.dtype == np.float32 else b"ctorch\nLongStorage\n"
        stored = storage_id(value.size, str(key), kind)
        entries += text(f"module.{name}") + tensor(0, value.shape, strides, stored) + b"s"
        storages[str(key)] = value.tobytes()
    options = b"cargparse\nNamespace\n)\x81}" + text("gd") + number(20) + b"sb"
    score = number(np.float64(50.8))
    pickled = b"\x80\x02}" + text("args") + options + b"s" + text("best_prec1") + score + b"s"
    pickled += text("epoch") + number(50) + b"s" + text("state_dict") + b"}" + entries + b"s."
    return torch_zip(path, pickled, storages)


@pytest.mark.parametrize("name", SIZES)
def test_a_released_style_checkpoint(name, tmp_path):
    model, variables = drawn(name)
    state = fluxjax.to_torch(model, variables)
    counted = [n for n in state if n.endswith("running_var")]
    counts = {n.replace("running_var", "num_batches_tracked"): np.int64(9) for n in counted}
    assert len(counts) > 10
    file = training_file(tmp_path / "best.pth.tar", state | counts)
    loaded, values = fluxjax.load_torch("ffn", file, **LOADING.get(name, {}))
    assert loaded == model.clone(parent=None)
    assert jax.tree.structure(values) == jax.tree.structure(variables)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, values, variables)))


@pytest.mark.parametrize("name", SIZES)
def test_a_damaged_one_gets_one_error(name, tmp_path):
    state = fluxjax.to_torch(*drawn(name))
    norm = next(n for n in state if n.endswith("_8.weight") and "adaconv" not in n)
    state[norm.replace("_8.", "_9.")] = state.pop(norm)
    with pytest.raises((fluxjax.WeightsError, ValueError)) as error:
        fluxjax.load_torch("ffn", training_file(tmp_path / "a.pth", state), **LOADING.get(name, {}))
    assert norm in str(error.value)
