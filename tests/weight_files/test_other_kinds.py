"""Files that are taken for weights: one error that says what they are."""

import logging
import zipfile

import numpy as np
import pytest

from fluxjax.weight_files.readers import WeightsError, find_state_dict, read_weights


def zipped(path, *names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"{}")


@pytest.mark.parametrize(
    ("names", "message"),
    [  # layouts of torch 2.13, of 2.4, and of a package of AOTInductor
        (("m/data/weights/weight_0", "m/models/model.json", "m/archive_format"), "torch.export"),
        (("serialized_exported_program.json", "serialized_state_dict.pt", "version"), r"\.pt2"),
        (("m/archive_format", "m/data/aotinductor/model/a.so"), "state_dict, 'weights.pth'"),
        (("config.json", "model.weights.h5"), "neither torch nor numpy .'config.json', 'model"),
    ],
)
def test_zip_files_of_other_programs(tmp_path, names, message):
    zipped(tmp_path / "w.pt2", *names)
    with pytest.raises(WeightsError, match=message) as error:
        read_weights(tmp_path / "w.pt2")
    assert "damaged" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n", "git lfs pull"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "a web page"),
        (b"\x89HDF\r\n\x1a\n" + bytes(64), "HDF5"),
        (b"GGUF\x03" + bytes(64), "GGUF"),
        (b"\x1f\x8b\x08" + bytes(64), "unpack it first"),
    ],
)
@pytest.mark.parametrize("name", ["w.safetensors", "w.bin"])
def test_files_of_other_kinds(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        read_weights(tmp_path / name)


def test_a_distributed_checkpoint(tmp_path):
    (tmp_path / ".metadata").write_bytes(b"x")
    (tmp_path / "__0_0.distcp").write_bytes(b"x")
    with pytest.raises(WeightsError, match="dcp_to_torch_save"):
        read_weights(tmp_path)


@pytest.mark.parametrize("wrapper", ["model_state", "ema", "state_dict_ema", "ema_state_dict"])
def test_wrappers(wrapper):
    one = np.ones(1)
    assert find_state_dict({"epoch": 3, wrapper: {"a": one}}) == {"a": one}


def test_of_two_state_dicts_the_one_that_is_read_is_named(caplog):
    one, two = np.ones(1), np.zeros(1)
    with caplog.at_level(logging.WARNING):
        assert find_state_dict({"ema": {"a": two}, "model_state": {"a": one}}) == {"a": one}
    assert "weights under 'model_state', 'ema': 'model_state' is read" in caplog.text
    caplog.clear()
    find_state_dict({"model": {"a": one}, "ema": {"decay": 0.9}, "optimizer": {"state": {}}})
    assert not caplog.records
