"""Golden tensors: outputs of the official implementations, and how to compare with them.

Each .npz holds `meta` (JSON: configuration, tolerances), `param/<torch name>`, `input/<name>` and
`output/<name>`. Tolerances are the fixture's own, many times the float32 noise of the reference.

The copies here are cut (`python -m tests.golden.cut`): large outputs are every n-th entry, and some
cases are absent, whose tests are skipped. FLUXJAX_GOLDEN names a folder that has all of them whole,
each system's in a folder of its own.
"""

import functools
import json
import math
import os
import pathlib
import re

import flax.linen as nn
import jax
import numpy as np
import pytest

from fluxjax.tokens.tokens import pack

_FOLDER = pathlib.Path(os.environ.get("FLUXJAX_GOLDEN") or pathlib.Path(__file__).parent)


class Fixture:
    """One case of a system."""

    def __init__(self, path):
        with np.load(path, allow_pickle=False) as data:
            arrays = {name: data[name] for name in data.files}
        self.name = path.stem
        self.meta = json.loads(str(arrays.pop("meta")))
        self.params = _under(arrays, "param/")
        self.inputs = _under(arrays, "input/")
        self.outputs = _under(arrays, "output/")
        self._thinned = self.meta.get("thinned", {})

    @property
    def loading(self):
        """Keywords of `load_torch` that the shapes do not tell."""
        config = self.meta["config"]
        return {
            "num_heads": config["num_heads"],
            "pool_num_heads": config["attn_pool_num_heads"],
            "num_frames": config["num_frames"],
            "image_size": config["img_size"],
            "gelu": "exact",  # the fixtures ran the reference's CPU path
        }

    def video(self, name):
        """A clip in our layout, [B, T, H, W, 3]."""
        return np.ascontiguousarray(self.inputs[name].transpose(0, 2, 3, 4, 1))

    def shape(self, name):
        """The whole shape of output `name`."""
        return tuple(self._thinned.get(name, {}).get("shape", self.outputs[name].shape))

    def check(self, name, actual, tolerance=None):
        """Compares with output `name`; the worst error over what is tolerated must be <= 1."""
        tolerances = self.meta["tolerance"]
        if isinstance(tolerances, str):
            tolerances = _spelled_out(tolerances)
        bound = tolerances.get(tolerance or name) or tolerances.get("default")
        if not (bound or tolerance) and "suggested_atol" in self.meta:
            bound = {kind: self.meta[f"suggested_{kind}"] for kind in ("atol", "rtol")}
        assert bound, f"{self.name} has no tolerance for {tolerance or name}"
        expected, actual = self.outputs[name], np.asarray(actual)
        assert actual.shape == self.shape(name), (self.name, name, actual.shape, self.shape(name))
        if thinned := self._thinned.get(name):
            actual = actual.reshape(-1)[:: thinned["every"]]
        error = np.abs(actual.astype(np.float64) - expected)
        if "rel_l2" in bound:
            worst = np.linalg.norm(error) / (
                bound["atol"] + bound["rel_l2"] * np.linalg.norm(expected)
            )
        else:
            bound = bound.get("atol", 0.0) + bound.get("rtol", 0.0) * np.abs(expected)
            worst = np.max(error / bound)
        assert worst <= 1.0, f"{self.name}: {name} is off by {worst:.3g} times the tolerance"
        return worst


def _spelled_out(text):
    """Tolerances written as "fp32: atol 2e-5 rtol 1e-4" or "a/b atol 3e-5 rtol 2e-4; c atol .."."""
    bounds = {}
    for part in re.split("[;,]", text):
        kind = re.split("[: ]", part.strip())[0]
        found = {key: float(x) for key, x in re.findall(r"(atol|rtol) ([0-9.e-]+)", part)}
        for name in (kind, *kind.split("/")):
            bounds["default" if name in ("fp32", "atol") else name] = found
    return bounds


def _under(arrays, prefix):
    return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}


def here(system, case):
    """Whether there is such a case."""
    return any((_FOLDER / system).glob(f"{case}*.npz"))


@functools.cache
def fixture(system, case):
    """The case of a system whose name begins with `case`, such as "v02". Absent: a skipped test."""
    found = sorted((_FOLDER / system).glob(f"{case}*.npz"))
    if not found:
        pytest.skip(
            f"no {system}/{case}*.npz in {_FOLDER}: FLUXJAX_GOLDEN names a folder with all",
            allow_module_level=True,
        )
    return Fixture(found[0])


def packed(video, model, spare=5, max_grid=None):
    """The clips of a dense batch as padded tokens, with spare slots."""
    tokens = video.shape[1] * (video.shape[2] // model.patch) * (video.shape[3] // model.patch)
    return pack(list(video), tokens + spare, model.patch, max_grid)


def dropmask(kept, grid):
    """The reference's mask [B, T*H*W], True = dropped, of selected tokens of one grid."""
    assert np.all(kept.valid)
    index = np.ravel_multi_index(np.moveaxis(np.asarray(kept.position), -1, 0), grid)
    assert np.all(np.diff(index, axis=1) > 0)  # the original order, nothing twice
    dropped = np.ones((index.shape[0], math.prod(grid)), bool)
    np.put_along_axis(dropped, index, False, axis=1)
    return dropped


def traced(model, variables, *args, **kwargs):
    """Applies a model under jit; also returns each submodule's first input and its output.

    Returns:
      The result, and {"blocks_0/attn": (input, output), ..}.
    """

    @jax.jit
    def run(variables, *args):
        calls = {}

        def record(call, inputs, options, context):
            result = call(*inputs, **options)
            if context.method_name == "__call__":
                calls["/".join(context.module.path)] = (inputs[0], result)
            return result

        with nn.intercept_methods(record):
            return model.apply(variables, *args, **kwargs), calls

    return run(variables, *args)
