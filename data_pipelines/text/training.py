"""A small vocabulary from captions of one's own: byte-level BPE."""

from __future__ import annotations

import os
from collections.abc import Iterable

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from data_pipelines.text.tokenizer import Tokenizer

# Ids 0, 1 and the last: CLIP's text tower takes the largest id for the end of a text.
PAD, START, END = "<pad>", "<start>", "<end>"
_BYTES = pre_tokenizers.ByteLevel.alphabet()


def train_bpe(captions: Iterable[str], vocab_size: int, path: str | os.PathLike[str]) -> Tokenizer:
    """Learns merges of bytes from captions, in lower case, and writes a `tokenizer.json`.

    The same captions give the same file. Texts are put between `START` and `END`.

    Args:
      captions: to learn from.
      vocab_size: at most so many ids; the 256 bytes and three special tokens are always there.
      path: of the file to write.

    Raises:
      ValueError: if the size has no room for the bytes.
    """
    special = [PAD, START]
    smallest = len(_BYTES) + len(special) + 1
    if vocab_size < smallest:
        raise ValueError(f"vocab_size={vocab_size} must be at least {smallest}: the bytes, "
                         f"{', '.join([*special, END])}")  # fmt: skip
    library = tokenizers.Tokenizer(models.BPE())
    library.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1,
        special_tokens=special,
        initial_alphabet=sorted(_BYTES),
        show_progress=False,
    )
    library.train_from_iterator(captions, trainer)
    library.add_special_tokens([END])
    library.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}",
        special_tokens=[(token, library.token_to_id(token)) for token in (START, END)],
    )
    library.save(os.fspath(path))
    return Tokenizer(library)
