"""CLIP's tokenizer against AVION's.

The vocabulary, 1.3 MB, is not here: `clip_merges.txt` has the merges that these texts need with
their ranks, and those between are merges of control characters.
"""

import gzip
import itertools
import pathlib

import numpy as np
import pytest

import fluxjax
from data_pipelines.text.clip import _MERGES
from tests.golden import fixture

USED = pathlib.Path(__file__).parent / "avion" / "clip_merges.txt"
CONTROLS = [chr(256 + i) for i in range(32)]  # how byte-level BPE writes bytes 0 to 31


def merges_of_controls():
    """Endlessly many: each joins a control character with what was joined before."""
    longer = CONTROLS
    while True:
        shorter, longer = longer, []
        for left, right in itertools.product(CONTROLS, shorter):
            longer.append(left + right)
            yield f"{left} {right}"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    used = dict(line.split(" ", 1) for line in USED.read_text(encoding="utf-8").splitlines())
    others = merges_of_controls()
    lines = [used.get(str(rank)) or next(others) for rank in range(_MERGES)]
    path = tmp_path_factory.mktemp("clip") / "bpe_simple_vocab_16e6.txt.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write("\n".join(["a comment", *lines, *lines[:9], ""]))  # the file is longer
    return fluxjax.tokenizer("clip", vocabulary=path)


def test_token_ids(tokenizer):
    case = fixture("avion", "v11")
    assert tokenizer.vocab_size == case.meta["vocab_size"]
    texts = case.meta["texts"]
    for context in (77, 8, 32):
        ids = tokenizer(texts, context=context)
        assert ids.dtype == np.int32
        np.testing.assert_array_equal(ids, case.outputs[f"ids_{context}"])
    np.testing.assert_array_equal(tokenizer(texts).argmax(1), case.outputs["eot_index_77"])


def test_the_text_comes_back(tokenizer):
    case = fixture("avion", "v11")
    for text, expected in zip(case.meta["texts"], case.meta["decoded"], strict=True):
        if "<end_of_text>" not in text:
            assert tokenizer.decode(tokenizer(text, context=200)[0]) == expected.strip()
