"""Cut golden files: what is kept, and that thinned outputs are still held to the truth."""

import json
import pathlib

import numpy as np
import pytest

from tests.golden import Fixture
from tests.golden.cut import cut


def whole(rng):
    meta = {"tolerance": {"default": {"atol": 1e-4, "rtol": 0.0}}}
    return {
        "meta": np.array(json.dumps(meta)),
        "param/a.weight": rng.normal(size=(4, 4)),
        "param/b.weight": rng.normal(size=(4, 4)),
        "input/x": rng.normal(size=(2, 3)),
        "output/y": rng.normal(size=(6, 7)),
        "output/z": rng.normal(size=(2, 2)),
    }


def test_large_outputs_are_thinned_and_compared_where_they_are_known(tmp_path):
    arrays = whole(np.random.default_rng(0))
    kept = cut(arrays, every=5, over=10, drop=["param/b*"])
    np.savez(tmp_path / "case.npz", **kept)
    case = Fixture(tmp_path / "case.npz")
    assert list(case.params) == ["a.weight"] and case.outputs["y"].shape == (9,)
    assert case.shape("y") == (6, 7) and case.shape("z") == (2, 2)
    y = arrays["output/y"]
    assert case.check("y", y) == 0.0
    case.check("z", arrays["output/z"])
    wrong = y.copy()
    wrong[0, 5] += 1e-3
    with pytest.raises(AssertionError, match="y is off by 10"):
        case.check("y", wrong)
    with pytest.raises(AssertionError):
        case.check("y", y.T)  # the shape is known whole


def test_what_is_kept_stays_whole_and_unknown_names_are_refused():
    arrays = whole(np.random.default_rng(0))
    assert cut(arrays, every=5, over=10, keep=["output/y"])["output/y"].shape == (6, 7)
    with pytest.raises(ValueError, match="no array is named 'output/q'"):
        cut(arrays, drop=["output/q"])
    with pytest.raises(ValueError, match="cut already"):
        cut(cut(arrays, every=2, over=10))


def test_the_repositorys_copies_stay_small():
    copies = pathlib.Path(__file__).parent.rglob("*.[np][pt]*")
    assert 1e6 < sum(path.stat().st_size for path in copies if path.suffix != ".py") < 15e6
