"""Token ids of captions: what a `tokenizer.json` says, cut or padded to one length."""

from __future__ import annotations

import os

import numpy as np
import tokenizers

_PADDINGS = ("[PAD]", "<pad>", "<|pad|>")
_WHERE = (
    "give a tokenizer.json: CLIP's, which holds bpe_simple_vocab_16e6.txt.gz, and those of other "
    "models lie beside their weights (openai/clip-vit-base-patch32 on huggingface.co), and "
    "data_pipelines.text.training.train_bpe makes one of your captions"
)


class Tokenizer:
    """A text to a fixed number of token ids; safe to use from several threads.

    Attributes:
      vocab_size: number of ids.
      pad_id: what fills the rest of a short caption.
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

    def encode(self, text: str, length: int) -> tuple[np.ndarray, np.int32]:
        """Ids of one text, with the tokens that the vocabulary puts before and after it.

        A text that is too long loses its last words, not the token after them.

        Args:
          text: may be empty.
          length: ids wanted.

        Returns:
          ids [length] int32, filled with `pad_id`; how many are no filling, int32 scalar.

        Raises:
          ValueError: if the length is smaller than 1, or has no room for the tokens around a text.
        """
        encoding = self._library.encode(text)
        ids, special = encoding.ids, encoding.special_tokens_mask
        after = 0  # tokens that end the text
        while after < len(ids) and special[-1 - after]:
            after += 1
        around = sum(special) if after < len(ids) else after
        if length < max(1, around):
            raise ValueError(f"length={length} must be at least {max(1, around)}, of which "
                             f"{around} begin and end a text")  # fmt: skip
        if len(ids) > length:
            ids = ids[: length - after] + ids[len(ids) - after :]
        out = np.full(length, self.pad_id, np.int32)
        out[: len(ids)] = ids
        return out, np.int32(len(ids))

    def decode(self, ids: np.ndarray) -> str:
        """The text of ids [N], without the tokens around it."""
        return self._library.decode([int(number) for number in ids], skip_special_tokens=True)
