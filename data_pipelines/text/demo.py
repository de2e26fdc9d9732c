"""A vocabulary of the demo corpus's captions, made where it is needed."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

from data_pipelines.demo.captions import DIGITS, phrases
from data_pipelines.demo.render import PHOTOS
from data_pipelines.text.training import train_bpe

SIZE = 400  # ids at most: 256 bytes, three special tokens, and enough merges for whole words


def write_vocabulary(path: str | os.PathLike[str]) -> None:
    """Writes a `tokenizer.json` of all captions there can be; always the same file."""
    train_bpe(_all_captions(), SIZE, path)


def _all_captions() -> Iterator[str]:
    for sentence, digit, photo in itertools.product(phrases(), range(10), PHOTOS):
        yield sentence.format(word=DIGITS[digit], number=digit, photo=photo)
