"""python -m fluxjax.convert, in this process: files written, parity, one-line errors."""

import re

import numpy as np
import pytest

import fluxjax
from fluxjax.convert import __main__ as command_line
from fluxjax.weight_files.readers import write_safetensors
from tests.convert.make_data import DATA
from tests.convert.test_clip import evl_state
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


def arguments(options):
    """--name value, --name for True, nothing for None."""
    for name, value in options.items():
        if value is not None and value is not False:
            yield from (f"--{name}",) if value is True else (f"--{name}", str(value))


def run(**options):
    """Exit code of the command with these options."""
    return command_line.main(list(arguments({"family": "fluxvit", **options})))


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
        ({"source": "missing.pth"}, "--source=missing.pth is not a file or folder"),
        ({"family": "fluxvitt"}, "did you mean 'fluxvit'?"),
        ({"reference": "x.npz"}, "--reference needs --verify"),
        ({"reference": "x.npz", "verify": True}, "x.npz"),
        (wrong_reference, "must be float32 [B, T, H, W, 3]"),
        ({"num_frames": 5}, "pass the values of the checkpoint"),
        ({"budgets": "8,4"}, "must be 3, one a head"),
        ({"family": "internvideo2"}, "unexpected"),
        ({"decoder_heads": 3}, "no option 'decoder_heads'"),
    ],
)
def test_mistakes_give_one_line_and_write_nothing(source, tmp_path, options, message, capsys):
    options = options(tmp_path) if callable(options) else options
    target = tmp_path / "m"
    given = {"source": source, "target": target, **OPTIONS, **options}
    assert run(**given) == 1
    printed = capsys.readouterr().err
    line = next(line for line in printed.splitlines() if line.startswith("error: "))
    assert message in line and not target.exists()
    assert "Traceback" not in printed


@pytest.mark.parametrize("options", [{"source": None}, {"gelu": "relu"}, {"budgets": "8,x"}])
def test_options_that_do_not_parse_end_with_the_usage(source, tmp_path, options, capsys):
    given = {"source": source, "target": tmp_path / "m", **OPTIONS, **options}
    with pytest.raises(SystemExit):
        run(**given)
    assert f"--{next(iter(options))}" in capsys.readouterr().err


def test_an_existing_target_is_kept(source, tmp_path, capsys):
    (tmp_path / "own.txt").write_text("")
    assert run(source=source, target=tmp_path, **OPTIONS) == 1
    assert "choose another folder" in capsys.readouterr().err


@pytest.mark.parametrize("joined", [True, False])
@pytest.mark.parametrize("kind", ["quick", "exact", "tanh"])
def test_every_gelu_in_both_forms_of_options(source, tmp_path, joined, kind, capsys):
    given = {"family": "fluxvit", "source": source, "target": tmp_path / "m"} | OPTIONS
    words = list(arguments(given | {"gelu": kind}))
    if joined:
        words = [f"{name}={value}" for name, value in zip(words[::2], words[1::2], strict=True)]
    assert command_line.main(words) == 0
    assert fluxjax.load(tmp_path / "m")[0].gelu == kind
    assert "is assumed" not in capsys.readouterr().err


def test_what_is_assumed_is_printed_once(source, tmp_path, capsys):
    given = {"source": source, "target": tmp_path / "m"} | OPTIONS
    del given["gelu"], given["pool_num_heads"]
    assert run(**given) == 0
    assert fluxjax.load(tmp_path / "m")[0].gelu == "tanh"
    printed = capsys.readouterr().err
    assert printed.count("gelu=tanh is assumed (as in all released models)") == 1
    assert printed.count("pool_num_heads=16 is assumed") == 1
    assert "budgets=(3072, 2048, 1024) (as released)" in printed


def test_an_evl_of_a_decoder_and_a_folder_of_its_clip(tmp_path, capsys):
    clip = DATA / "clip_vision_exact"
    write_safetensors(tmp_path / "decoder.safetensors", evl_state({"depth": 2}))
    given = {"family": "evl", "source": tmp_path / "decoder.safetensors", "target": tmp_path / "m"}
    assert run(**given, clip=clip, decoder_heads=4) == 0
    model = fluxjax.load(tmp_path / "m")[0]
    assert (model.tower_gelu, model.num_heads, model.decoder_heads) == ("exact", 16, 4)
    assert run(**given, clip=clip, decoder_heads=4, gelu="tanh", overwrite=True) == 0
    assert fluxjax.load(tmp_path / "m")[0].tower_gelu == "tanh"
    assert "gelu=tanh was passed, config.json says exact" in capsys.readouterr().err


def test_a_folder_of_a_clip_without_projection(tmp_path, capsys):
    target = tmp_path / "m"
    assert run(family="clip", source=DATA / "clip_vision_quick", target=target, verify=True) == 0
    printed = capsys.readouterr()
    assert "ClipImage without classes is in" in printed.out
    assert ": 32 outputs" in printed.out and "gelu=quick (config.json)" in printed.err
