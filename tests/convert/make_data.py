"""Writes the small torch files that the reader's tests use. Runs where torch is installed:

python tests/convert/make_data.py

The values come from `values()`, which the tests call as well, without torch. Made with torch
2.13.0.
"""

import argparse
import collections
import pathlib

import numpy as np

from fluxjax.models import create_model

DATA = pathlib.Path(__file__).parent / "data"
DTYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8")
FLUXVIT = {
    "num_classes": 3,
    "width": 16,
    "depth": 1,
    "num_heads": 2,
    "grid": (2, 2, 2),
    "pooled": 16,
    "pool_heads": 2,
}
EXOTIC = ("uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2")


def values() -> dict[str, np.ndarray]:
    """What every file holds, as float64 [2, 3] per type, of whole numbers exact even in float8."""
    names = DTYPES + EXOTIC
    return {name: np.arange(6.0).reshape(2, 3) + i % 3 for i, name in enumerate(names)} | {
        "bool": np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]),
        "view": np.arange(24.0).reshape(4, 6)[1:3, 1::2].T,
        "scalar": np.float64(2.5).reshape(()),
        "empty": np.zeros((0, 3)),
    }


def fluxvit_state() -> dict[str, np.ndarray]:
    """Official names and made-up values of a very small FluxViT, name -> float32 array."""
    from fluxjax.convert.fluxvit import rows_of

    state = {}
    for i, row in enumerate(rows_of(create_model("fluxvit_ti14", **FLUXVIT))):
        wave = np.sin(0.7 * np.arange(np.prod(row.shape)) + i)
        state[row.name] = (0.2 * wave).astype(np.float32).reshape(row.shape)
    return state


def main() -> None:
    import torch

    def state(exotic: bool) -> dict:
        names = DTYPES + (EXOTIC if exotic else ()) + ("bool",)
        expected = values()
        tensors = collections.OrderedDict(
            (name, torch.tensor(expected[name]).to(getattr(torch, name))) for name in names
        )
        tensors["view"] = torch.arange(24.0).reshape(4, 6)[1:3, 1::2].T
        assert not tensors["view"].is_contiguous()
        tensors["scalar"] = torch.tensor(2.5)
        tensors["empty"] = torch.zeros(0, 3)
        tensors["tied"] = torch.nn.Parameter(tensors["float32"])
        tensors["expanded"] = torch.tensor([7.0]).expand(2, 3)
        tensors._metadata = collections.OrderedDict(version=1)
        return tensors

    def training(weights: dict) -> dict:
        return {
            "model": {f"module.{name}": tensor for name, tensor in weights.items()},
            "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1}]},
            "epoch": 3,
            "args": argparse.Namespace(lr=1e-3, betas=(0.9, 0.98), nested=[None, True]),
            "best": np.float64(76.5),
            "classes": np.int64(400),
            "milestones": collections.Counter([3, 5]),
            "skipped": set(),
            "shape": torch.Size([2, 3]),
            "dtype": torch.bfloat16,
            "device": torch.device("cpu"),
        }

    DATA.mkdir(exist_ok=True)
    torch.save(state(True), DATA / "zip.pth")
    torch.save(state(False), DATA / "legacy.pth", _use_new_zipfile_serialization=False)
    torch.save(training(state(False)), DATA / "training.pth")
    torch.save(training(state(False)), DATA / "training_protocol5.pth", pickle_protocol=5)

    class Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.proj = torch.nn.Linear(3, 2)
            self.register_buffer("steps", torch.arange(3))
            self.names = ["a", "b"]

        def forward(self, x):
            return self.proj(x) + self.steps.sum()

    official = {name: torch.from_numpy(array) for name, array in fluxvit_state().items()}
    torch.save({"module": official}, DATA / "fluxvit.pth")  # as DeepSpeed wraps it

    module = torch.nn.Sequential(Block(), torch.nn.LayerNorm(2))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.arange(parameter.numel()).reshape(parameter.shape))
    torch.jit.save(torch.jit.script(module), str(DATA / "script.pth"))


if __name__ == "__main__":
    main()
