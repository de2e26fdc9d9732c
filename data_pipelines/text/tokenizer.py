"""Token ids of captions: what a `tokenizer.json` says, cut or padded to one length."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence

import numpy as np
import tokenizers

logger = logging.getLogger(__name__)

_PADDINGS = ("[PAD]", "<pad>", "<|pad|>")
_WHERE = (
    "give CLIP's bpe_simple_vocab_16e6.txt.gz, which lies in clip/ of github.com/openai/CLIP, or a "
    "tokenizer.json, which lies beside the weights (openai/clip-vit-base-patch32 on "
    "huggingface.co has CLIP's), and "
    "data_pipelines.text.training.train_bpe makes one of your captions"
)


class Tokenizer:
    """A text to a fixed number of token ids; safe to use from several threads.

    Attributes:
      vocab_size: number of ids.
      pad_id: what fills the rest of a short caption.
      counts: texts encoded so far, and how many of them were empty, and cut.
    """

    def __init__(self, library: tokenizers.Tokenizer):
        """Takes a tokenizer of the library; its own cutting and padding are switched off."""
        padding = library.padding
        known = [library.token_to_id(token) for token in _PADDINGS]
        known = [number for number in known if number is not None]
        self.pad_id: int = padding["pad_id"] if padding else (known or [0])[0]
        library.no_padding()
        library.no_truncation()
        self._library = library
        self.vocab_size: int = library.get_vocab_size(with_added_tokens=True)
        self.counts = {"texts": 0, "empty": 0, "cut": 0}
        self._counting = threading.Lock()

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Tokenizer:
        """Reads a `tokenizer.json`, or that of a folder.

        Raises:
          FileNotFoundError: if there is none; says where to get one.
          ValueError: if the file is no such vocabulary.
        """
        path = os.path.expanduser(os.fspath(path))
        if os.path.isdir(path):
            path = os.path.join(path, "tokenizer.json")
        if not os.path.isfile(path):
            raise FileNotFoundError(f"there is no vocabulary {path}; {_WHERE}")
        try:
            library = tokenizers.Tokenizer.from_file(path)
        except Exception as error:  # the library raises this very class
            raise ValueError(f"{path} is no tokenizer.json ({error}); {_WHERE}") from error
        return cls(library)

    def __call__(self, texts: str | Sequence[str], context: int = 77) -> np.ndarray:
        """Ids [B, context] int32 of captions; one caption is a batch of one."""
        texts = [texts] if isinstance(texts, str) else texts
        ids = [self.encode(text, context)[0] for text in texts]
        return np.stack(ids) if ids else np.zeros((0, context), np.int32)

    def clean(self, text: str) -> str:
        """What a kind of tokenizer does to a text before the vocabulary sees it; here nothing."""
        return text

    def encode(self, text: str, length: int) -> tuple[np.ndarray, np.int32]:
        """Ids of one text, with the tokens that the vocabulary puts before and after it.

        A text that is too long loses its last words, not the token after them. Empty and cut texts
        are counted; the first that is cut is named in the log.

        Args:
          text: may be empty.
          length: ids wanted.

        Returns:
          ids [length] int32, filled with `pad_id`; how many are no filling, int32 scalar.

        Raises:
          ValueError: if the length is smaller than 1, or has no room for the tokens around a text.
        """
        encoding = self._library.encode(self.clean(text))
        ids, special = encoding.ids, encoding.special_tokens_mask
        after = 0  # tokens that end the text
        while after < len(ids) and special[-1 - after]:
            after += 1
        around = sum(special) if after < len(ids) else after
        if length < max(1, around):
            raise ValueError(f"length={length} must be at least {max(1, around)}, of which "
                             f"{around} begin and end a text")  # fmt: skip
        self._count(text, empty=len(ids) == around, cut=len(ids) > length, length=length)
        if len(ids) > length:
            ids = ids[: length - after] + ids[len(ids) - after :]
        out = np.full(length, self.pad_id, np.int32)
        out[: len(ids)] = ids
        return out, np.int32(len(ids))

    def _count(self, text: str, empty: bool, cut: bool, length: int) -> None:
        with self._counting:
            self.counts["texts"] += 1
            self.counts["empty"] += empty
            self.counts["cut"] += cut
            first = cut and self.counts["cut"] == 1
        if first:
            logger.warning(
                "a caption is longer than %d tokens and is cut (others are only counted): %.80r",
                *(length, text),
            )

    def decode(self, ids: np.ndarray) -> str:
        """The text of ids [N], without the tokens around it."""
        return self._library.decode([int(number) for number in ids], skip_special_tokens=True)
