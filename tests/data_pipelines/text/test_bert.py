"""BERT's tokenizer: cleaning, WordPiece, lengths, answers."""

import numpy as np
import pytest
import tokenizers

import fluxjax
from data_pipelines.text.bert import SPECIAL, clean_caption
from tests.golden import fixture

WORDS = ("a", "man", "run", "##s", "##ning", "caf", "##e", "5", "b", "rid", "horse", "中", "the")
CLS, SEP, UNK = (SPECIAL.index(token) for token in ("[CLS]", "[SEP]", "[UNK]"))


def number(word):
    return len(SPECIAL) + WORDS.index(word)


@pytest.fixture
def vocabulary(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join((*SPECIAL, *WORDS)) + "\n", encoding="utf-8")
    return path


def test_cleaning():
    meta = fixture("vidtldr", "vidtldr_metrics_sampling").meta
    for text, cleaned in meta["pre_text"]:
        assert clean_caption(text) == cleaned
    for text, cleaned in meta["pre_text_max3"]:
        assert clean_caption(text, max_words=3) == cleaned


def test_word_pieces(vocabulary):
    tokenizer = fluxjax.tokenizer("bert", vocabulary=vocabulary)
    words = ["a", "man", "run", "##s"]
    ids = tokenizer(["A man, runs!", "Café 中5", "quux", ""], context=8)
    assert ids.dtype == np.int32
    np.testing.assert_array_equal(ids[0], [CLS, *map(number, words), SEP, 0, 0])
    pieces = [number(word) for word in ("caf", "##e", "中", "5")]
    # Chinese characters are words of their own; "5" follows one.
    np.testing.assert_array_equal(ids[1], [CLS, *pieces, SEP, 0, 0])
    np.testing.assert_array_equal(ids[2, :3], [CLS, UNK, SEP])
    np.testing.assert_array_equal(ids[3], [CLS, SEP, 0, 0, 0, 0, 0, 0])
    assert tokenizer.mask_id == SPECIAL.index("[MASK]") and tokenizer.pad_id == 0
    assert tokenizer.decode(ids[0]) == "a man runs"


def test_too_long_texts_keep_their_end_and_masks_count_tokens(vocabulary):
    tokenizer = fluxjax.tokenizer("bert", vocabulary=vocabulary)
    ids, mask = tokenizer.masked(["a man runs", "a"], context=4)
    np.testing.assert_array_equal(ids, [[CLS, number("a"), number("man"), SEP],
                                        [CLS, number("a"), SEP, 0]])  # fmt: skip
    np.testing.assert_array_equal(mask, [[1, 1, 1, 1], [1, 1, 1, 0]])
    assert tokenizer.masked([], context=4)[0].shape == (0, 4)


def test_answers_end_twice_and_are_not_cleaned(vocabulary):
    """The reference writes " [SEP]" behind an answer, and its tokenizer another one, if it fits."""
    tokenizer = fluxjax.tokenizer("bert_answer", vocabulary=vocabulary)
    ids, mask = tokenizer.masked(["man", "a man runs"], 5)
    np.testing.assert_array_equal(ids, [[CLS, number("man"), SEP, SEP, 0],
                                        [CLS, *map(number, ["a", "man", "run"]), SEP]])  # fmt: skip
    np.testing.assert_array_equal(mask, [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]])
    (raw,), _ = tokenizer.masked(["a, man"], 6)
    np.testing.assert_array_equal(raw, [CLS, number("a"), UNK, number("man"), SEP, SEP])


def test_other_files(vocabulary, tmp_path):
    tokenizer = fluxjax.tokenizer("bert", vocabulary=vocabulary)
    folder = tmp_path / "folder"
    folder.mkdir()
    tokenizer._library.save(str(folder / "tokenizer.json"))
    again = fluxjax.tokenizer("bert", vocabulary=folder)
    np.testing.assert_array_equal(again(["a man"], 6), tokenizer(["a man"], 6))
    beside = fluxjax.tokenizer("bert", vocabulary=tmp_path)  # a folder with a vocab.txt
    np.testing.assert_array_equal(beside(["a man"], 6), tokenizer(["a man"], 6))
    with pytest.raises(FileNotFoundError, match=r"BERT's vocab\.txt lies beside its weights"):
        fluxjax.tokenizer("bert", vocabulary=tmp_path / "none.txt")
    (tmp_path / "wrong.txt").write_text("a\nb\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"it lacks \['\[PAD\]'"):
        fluxjax.tokenizer("bert", vocabulary=tmp_path / "wrong.txt")
    tokenizers.Tokenizer(tokenizers.models.BPE()).save(str(tmp_path / "bpe.json"))
    with pytest.raises(ValueError, match="no vocabulary of BERT"):
        fluxjax.tokenizer("bert", vocabulary=tmp_path / "bpe.json")
