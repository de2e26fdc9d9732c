"""python -m fluxjax.convert, in this process: files written, parity, one-line errors."""

import re

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

import fluxjax
from fluxjax.convert import __main__ as command_line
from fluxjax.weight_files.readers import write_safetensors
from tests.golden import fixture

CASE = fixture("fluxvit", "v02")
OPTIONS = {
    "num_heads": CASE.loading["num_heads"],
    "pool_num_heads": CASE.loading["pool_num_heads"],
    "num_frames": CASE.loading["num_frames"],
    "image_size": CASE.loading["image_size"],
    "gelu": "exact",
}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "official.safetensors"
    write_safetensors(path, CASE.params)
    return path


def run(**options):
    """Exit code (or message) of the command with these flags."""
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["convert"])
    with flagsaver.flagsaver(**{"family": "fluxvit", **options}), pytest.raises(SystemExit) as end:
        command_line.main(["convert"])
    return end.value.code


@pytest.mark.slow
def test_parity_with_the_reference_decides_the_exit_code(source, tmp_path, capsys):
    logits = CASE.outputs["logits_h0"]
    np.savez(tmp_path / "good.npz", video=CASE.video("x"), logits=logits)
    off = logits + 0.01 * np.abs(logits).max()
    np.savez(tmp_path / "off.npz", video=CASE.video("x"), logits=off)
    common = {"source": str(source), "target": str(tmp_path / "m"), "verify": True, **OPTIONS}
    assert run(reference=str(tmp_path / "good.npz"), **common) == 0
    printed = capsys.readouterr().out
    assert "FluxViT of" in printed and ": equal" in printed
    line = next(line for line in printed.splitlines() if line.startswith("blocks_0/attn/qkv/k"))
    _, shape, mean, std = line.split()
    expected = CASE.params["blocks.0.attn.qkv.weight"].T
    assert shape == "x".join(map(str, expected.shape))
    assert float(mean) == pytest.approx(expected.mean(), rel=1e-3)
    assert float(std) == pytest.approx(expected.std(), rel=1e-3)
    assert run(reference=str(tmp_path / "off.npz"), overwrite=True, **common) == 1
    printed = capsys.readouterr().out
    found = float(re.search(r"relative ([\d.e+-]+): NOT equal", printed)[1])
    assert found == pytest.approx(0.01, rel=0.02)


@pytest.mark.slow
def test_without_reference_a_seeded_forward_is_shown(source, tmp_path, capsys):
    target = tmp_path / "m"
    assert run(source=str(source), target=str(target), verify=True, **OPTIONS) == 0
    printed = capsys.readouterr().out
    model, variables = fluxjax.load(target)
    expected, loaded = fluxjax.load_torch("fluxvit", source, **CASE.loading)
    assert model == expected
    kernels = (v["params"]["heads_2"]["kernel"] for v in (variables, loaded))
    np.testing.assert_array_equal(*kernels)
    assert f"noise of seed 0, 4x{4 * model.patch}: {model.num_classes} outputs" in printed


def wrong_reference(tmp_path):
    clip = np.zeros((1, 3, 2, 28, 28), np.float32)
    np.savez(tmp_path / "torch.npz", video=clip, logits=np.zeros((1, 3)))
    return {"reference": str(tmp_path / "torch.npz"), "verify": True}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "missing.pth"}, "--source=missing.pth is not a file"),
        ({"source": None}, "--source is needed"),
        ({"family": "fluxvitt"}, "did you mean 'fluxvit'?"),
        ({"reference": "x.npz"}, "--reference needs --verify"),
        ({"reference": "x.npz", "verify": True}, "x.npz"),
        (wrong_reference, "must be float32 [B, T, H, W, 3]"),
        ({"num_frames": 5}, "pass the values of the checkpoint"),
        ({"budgets": ["8", "4"]}, "must be 3, one a head"),
        ({"family": "internvideo2"}, "unexpected"),
    ],
)
def test_mistakes_give_one_line_and_write_nothing(source, tmp_path, options, message):
    options = options(tmp_path) if callable(options) else options
    target = tmp_path / "m"
    code = run(**{"source": str(source), "target": str(target), **OPTIONS, **options})
    assert isinstance(code, str) and code.startswith("error: ") and message in code
    assert "\n" not in code and not target.exists()


def test_an_existing_target_is_kept(source, tmp_path):
    (tmp_path / "own.txt").write_text("")
    assert "choose another folder" in run(source=str(source), target=str(tmp_path), **OPTIONS)
