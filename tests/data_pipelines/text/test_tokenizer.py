"""Token ids of captions: cut, padded, opened and trained."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, processors

from data_pipelines.demo import captions
from data_pipelines.demo.motion import CAPTIONS
from data_pipelines.text.tokenizer import Tokenizer
from data_pipelines.text.training import train_bpe

TEXTS = [
    what.format(word=word, number=3) + f" {how} over a flower photo"
    for what in captions._WHAT
    for word in captions.DIGITS
    for motion in CAPTIONS.motions
    for how in captions._HOW[motion]
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("vocabulary") / "tokenizer.json"
    return train_bpe(TEXTS, 400, path), path


def wordpiece(path, **saved):
    """A vocabulary like BERT's: padding and cutting are written into the file."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "seven", "moves", "left"]
    library = tokenizers.Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]")
    )
    library.pre_tokenizer = pre_tokenizers.Whitespace()
    library.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    library.enable_truncation(4)
    library.enable_padding(length=16, pad_id=saved.get("pad_id", 0), pad_token="[PAD]")
    library.save(str(path))
    return path


def test_ids_between_start_and_end_then_padding(tmp_path):
    tokenizer = Tokenizer.open(wordpiece(tmp_path / "tokenizer.json"))
    ids, count = tokenizer.encode("a seven moves left", 8)
    assert ids.tolist() == [2, 4, 5, 6, 7, 3, 0, 0] and ids.dtype == np.int32
    assert count == 6 and count.dtype == np.int32
    assert tokenizer.encode("a dog", 4)[0].tolist() == [2, 4, 1, 3]
    assert (tokenizer.vocab_size, tokenizer.pad_id) == (8, 0)
    other = Tokenizer.open(wordpiece(tmp_path / "other.json", pad_id=7))
    assert other.encode("a", 4)[0].tolist() == [2, 4, 3, 7], "the file says what pads"


def test_a_long_text_keeps_the_token_at_its_end(tmp_path):
    tokenizer = Tokenizer.open(wordpiece(tmp_path / "tokenizer.json"))
    ids, count = tokenizer.encode("a seven moves left a seven", 5)
    assert ids.tolist() == [2, 4, 5, 6, 3] and count == 5
    assert tokenizer.encode("a seven moves left", 6)[0].tolist() == [2, 4, 5, 6, 7, 3]
    assert tokenizer.encode("a seven", 2)[0].tolist() == [2, 3]
    with pytest.raises(ValueError, match="length=1 must be at least 2, of which 2 begin and end"):
        tokenizer.encode("a seven", 1)


def test_a_vocabulary_without_end_token_is_cut_where_it_is(tmp_path):
    library = tokenizers.Tokenizer(models.WordLevel({"x": 0, "a": 1, "b": 2}, unk_token="x"))
    library.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = Tokenizer(library)
    assert tokenizer.encode("a b a b", 3)[0].tolist() == [1, 2, 1]
    assert tokenizer.encode("", 2)[1] == 0
    with pytest.raises(ValueError, match="length=0"):
        tokenizer.encode("", 0)


def test_empty_captions(trained, tmp_path):
    bert = Tokenizer.open(wordpiece(tmp_path / "tokenizer.json"))
    for text in ("", "   "):
        ids, count = bert.encode(text, 4)
        assert ids.tolist() == [2, 3, 0, 0] and count == 2
    ids, count = trained[0].encode("", 4)
    assert ids.tolist() == [1, 399, 0, 0] and count == 2


def test_a_trained_vocabulary_is_saved_and_says_the_text_again(trained):
    tokenizer, path = trained
    opened = Tokenizer.open(path)
    assert Tokenizer.open(path.parent).vocab_size == opened.vocab_size == 400
    for text in (*TEXTS[:5], "größer, 数字 🎬"):  # bytes: nothing is unknown
        ids, count = opened.encode(text, 64)
        np.testing.assert_array_equal(ids, tokenizer.encode(text, 64)[0])
        assert opened.decode(ids) == text and ids[0] == 1
        assert ids[count - 1] == 399, "CLIP's text tower looks for the largest id"
        assert not ids[count:].any()
    assert opened.encode("A Seven", 8)[0].tolist() == opened.encode("a seven", 8)[0].tolist()
    assert opened.encode(TEXTS[0], 64)[1] < len(TEXTS[0]) / 3, "words were learned"
    assert opened.encode("a moves", 8)[1] == 4, "a frequent word is one token"


def test_training_is_deterministic(trained, tmp_path):
    """In other processes too, with other hash seeds and numbers of threads."""
    digest = hashlib.sha256(trained[1].read_bytes()).hexdigest()
    program = (
        "import hashlib, sys\n"
        "from tests.data_pipelines.text.test_tokenizer import TEXTS, train_bpe\n"
        "train_bpe(TEXTS, 400, sys.argv[1])\n"
        "print(hashlib.sha256(open(sys.argv[1], 'rb').read()).hexdigest())"
    )
    for seed, threads in (("1", "1"), ("2", "4")):
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "again.json")],
            capture_output=True, text=True, check=True, timeout=120,
            env={**os.environ, "PYTHONHASHSEED": seed, "RAYON_NUM_THREADS": threads},
        )  # fmt: skip
        assert done.stdout.strip() == digest


def test_what_is_no_vocabulary_says_where_to_get_one(tmp_path):
    (tmp_path / "damaged.json").write_text('{"version": "1.0"')
    for path, kind, message in (
        ("none.json", FileNotFoundError, "there is no vocabulary .*none.json; give CLIP's"),
        ("", FileNotFoundError, "there is no vocabulary .*tokenizer.json; .*train_bpe makes one"),
        ("damaged.json", ValueError, "is no tokenizer.json .*openai/clip-vit-base-patch32"),
    ):
        with pytest.raises(kind, match=message):
            Tokenizer.open(tmp_path / path)
    with pytest.raises(ValueError, match="vocab_size=100 must be at least 259"):
        train_bpe(TEXTS, 100, tmp_path / "tokenizer.json")
