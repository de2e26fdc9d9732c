"""Vocabularies of the demo corpus's captions and questions, made where they are needed."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

from data_pipelines.demo.captions import DIGITS, phrases
from data_pipelines.demo.motion import CAPTIONS
from data_pipelines.demo.questions import KINDS, ask
from data_pipelines.demo.render import PHOTOS
from data_pipelines.text.bert import SPECIAL, clean_caption
from data_pipelines.text.training import train_bpe

SIZE = 400  # ids at most: 256 bytes, three special tokens, and enough merges for whole words


def write_vocabulary(path: str | os.PathLike[str]) -> None:
    """Writes a `tokenizer.json` of all captions there can be; always the same file."""
    train_bpe(_all_captions(), SIZE, path)


def write_words(path: str | os.PathLike[str]) -> None:
    """Writes BERT's kind of vocab.txt: every word of all captions, questions and answers."""
    texts = itertools.chain(_all_captions(), *_all_questions())
    words = {word for text in texts for word in clean_caption(text).split()}
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join((*SPECIAL, *sorted(words))) + "\n")


def _all_questions() -> Iterator[tuple[str, str]]:
    clips = itertools.product(KINDS, CAPTIONS.motions, range(10), PHOTOS)
    return (ask(*clip) for clip in clips)


def _all_captions() -> Iterator[str]:
    for sentence, digit, photo in itertools.product(phrases(), range(10), PHOTOS):
        yield sentence.format(word=DIGITS[digit], number=digit, photo=photo)
