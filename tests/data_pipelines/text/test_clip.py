"""CLIP's tokenizer: cleaning, what is counted, and vocabularies of other kinds."""

import gzip
import logging

import numpy as np
import pytest

import fluxjax
from data_pipelines.text.clip import ClipTokenizer, library_of
from data_pipelines.text.kinds import tokenizer
from data_pipelines.text.training import train_bpe

CAPTIONS = ["#C C picks up a knife", "a seven moves left", "the sun moves right"]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "tokenizer.json"
    train_bpe(CAPTIONS, 320, path)
    return path


@pytest.fixture
def clip(path):
    return tokenizer("clip", path)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("  A  Knife\tand\n plate ", "a knife and plate"),
        ("it&amp;#39;s &amp;amp; more", "it's & more"),
        ("schÃ¶n â€œquotesâ€\x9d", 'schön "quotes"'),
        ("ﬁsh ＡＢ", "fish ab"),
        ("a\x00b", "ab"),
        ("\n", ""),
    ],
)
def test_cleaning(clip, text, cleaned):
    assert clip.clean(text) == cleaned


def test_captions_of_a_trained_vocabulary_end_with_the_largest_id(clip):
    ids = clip([*CAPTIONS, "", "größer 数字 🎬"], context=40)
    assert ids.shape == (5, 40) and ids.dtype == np.int32
    assert (ids.max(axis=1) == clip.vocab_size - 1).all()
    assert ids[3, :3].tolist() == [1, clip.vocab_size - 1, 0], "an empty caption"
    assert clip.decode(ids[4]) == "größer 数字 🎬", "no character is unknown"
    np.testing.assert_array_equal(clip("A SEVEN  moves left", context=40), ids[1:2])
    assert clip([], context=40).shape == (0, 40)


def test_empty_and_cut_captions_are_counted_and_one_is_named(clip, caplog):
    with caplog.at_level(logging.WARNING):
        ids = clip(["x" * 30, "y" * 40, "", "  ", "seven"], context=8)
    assert clip.counts == {"texts": 5, "empty": 2, "cut": 2}
    assert (ids[:2, -1] == clip.vocab_size - 1).all(), "what is cut keeps its end"
    (record,) = caplog.records
    assert "longer than 8 tokens" in record.getMessage() and "xxxx" in record.getMessage()


def test_a_list_of_merges(tmp_path):
    lines = ["a comment", "s e", "v e", "se ve", "seve n</w>"]
    plain, zipped = tmp_path / "merges.txt", tmp_path / "merges.txt.gz"
    plain.write_text("\n".join(lines) + "\n", encoding="utf-8")
    zipped.write_bytes(gzip.compress(plain.read_bytes()))
    for file in (plain, zipped):
        opened = tokenizer("clip", file)
        assert opened.vocab_size == 256 + 256 + 4 + 2
        assert opened("Seven", context=4)[0].tolist() == [516, 515, 517, 0]
        assert opened("<start_of_text>!", context=4)[0].tolist() == [516, 516, 256, 517]
    zipped.write_bytes(zipped.read_bytes()[:-12])
    for file, text in ((zipped, None), (plain, "a comment\na b c\n"), (plain, "a\nqq rr\n")):
        if text:
            file.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match="is no list of merges .*bpe_simple_vocab_16e6"):
            tokenizer("clip", file)


def test_kinds_and_missing_vocabularies(path):
    assert type(fluxjax.tokenizer("clip", vocabulary=path)) is ClipTokenizer
    assert tokenizer("file", path).clean("A  B") == "A  B"
    with pytest.raises(ValueError, match="unknown kind of tokenizer 'clop'; did you mean 'clip'"):
        tokenizer("clop", path)
    with pytest.raises(FileNotFoundError, match="no vocabulary .*16e6.txt.gz; .*openai/CLIP"):
        tokenizer("clip", "bpe_simple_vocab_16e6.txt.gz")


def test_merges_of_unknown_symbols():
    with pytest.raises(ValueError, match="joins the unknown symbol 'qq'"):
        library_of([("qq", "a")])
