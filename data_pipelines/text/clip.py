"""CLIP's tokenizer: its cleaning of captions, and its vocabulary as a list of merges.

Source: openai/CLIP, clip/simple_tokenizer.py, which AVION and open_clip keep.
"""

from __future__ import annotations

import gzip
import html
import os
import re

import numpy as np
import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, processors

from data_pipelines.text.tokenizer import Tokenizer

START, END = "<start_of_text>", "<end_of_text>"  # the last two ids, the end the very last
_WORD_END = "</w>"
_MERGES = 49152 - 256 - 2  # of the longer list in the file
_PIECES = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
# ftfy, which takes a tenth of a millisecond, changes nothing in such a text.
_PLAIN = re.compile(r"[\t\n\r -%'-~]*")  # printable ASCII without &
_SPACES = re.compile(r"\s+")


class ClipTokenizer(Tokenizer):
    """Byte-level BPE of cleaned captions; the end of a text is its largest id.

    `START` and `END` written in a caption are these ids, as in the reference, and after punctuation
    too, where its expression takes their first letter for punctuation.
    """

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> ClipTokenizer:
        """Reads bpe_simple_vocab_16e6.txt.gz (or .txt), a `tokenizer.json` or the folder of one.

        Raises:
          FileNotFoundError: if there is none; says where to get one.
          ValueError: if the file is no such vocabulary.
        """
        path = os.path.expanduser(os.fspath(path))
        if not path.endswith((".gz", ".txt")) or not os.path.isfile(path):
            return super().open(path)
        try:
            return cls(library_of(_read_merges(path)))
        except (OSError, EOFError, ValueError) as error:
            raise ValueError(
                f"{path} is no list of merges ({error}); give CLIP's bpe_simple_vocab_16e6.txt.gz, "
                "which lies in clip/ of openai/CLIP"
            ) from error

    def clean(self, text: str) -> str:
        """Mends wrong encodings and HTML, makes runs of white space one space, and lower case."""
        if not _PLAIN.fullmatch(text):
            import ftfy  # only where captions need it: it takes long to import

            text = html.unescape(html.unescape(ftfy.fix_text(text)))
        return _SPACES.sub(" ", text).strip().lower()

    def decode(self, ids: np.ndarray) -> str:
        """The cleaned text of ids [N] up to the first of the largest, which ends it."""
        ids = ids[: int(np.argmax(ids))]
        return super().decode(ids) if len(ids) > 1 else ""  # the first begins every text


def _read_merges(path: str) -> list[tuple[str, str]]:
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")[1 : 1 + _MERGES]  # the first is a comment
    merges = [tuple(line.split()) for line in lines if line]
    if not merges or any(len(merge) != 2 for merge in merges):
        raise ValueError("every line after the first should hold two symbols")
    return merges


def library_of(merges: list[tuple[str, str]]) -> tokenizers.Tokenizer:
    """CLIP's tokenizer of these merges: 256 bytes, the same at a word's end, merges, start, end.

    Raises:
      ValueError: if a merge joins what is no symbol yet.
    """
    symbols = _byte_symbols()
    symbols += [symbol + _WORD_END for symbol in symbols]
    symbols += ["".join(merge) for merge in merges]
    vocabulary = {symbol: i for i, symbol in enumerate([*symbols, START, END])}
    for merge in merges:
        if unknown := [part for part in merge if part not in vocabulary]:
            raise ValueError(f"the merge {merge} joins the unknown symbol {unknown[0]!r}")
    library = tokenizers.Tokenizer(models.BPE(vocabulary, merges, end_of_word_suffix=_WORD_END))
    library.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(_PIECES), "removed", invert=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    library.decoder = decoders.Sequence([
        decoders.ByteLevel(),
        decoders.Replace(_WORD_END, " "),
        decoders.Strip(" ", 0, 1),
    ])  # fmt: skip
    library.add_special_tokens([START, END])
    library.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}",
        special_tokens=[(token, vocabulary[token]) for token in (START, END)],
    )
    return library


def _byte_symbols() -> list[str]:
    """A printable letter for each byte, in the order of their ids: printable bytes come first."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = 256 - len(printable)
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(others)]
