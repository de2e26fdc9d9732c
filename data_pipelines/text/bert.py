"""BERT's tokenizer: UMT's cleaning of captions, and WordPiece.

Sources: "BERT" (arXiv 1810.04805), google-research/bert; OpenGVLab/unmasked_teacher,
multi_modality/dataset/utils.py (pre_text).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import numpy as np
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from data_pipelines.text.tokenizer import Tokenizer

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# Token ids a caption, by data set.
CAPTION_LENGTHS = {
    "msrvtt": 32,
    "msvd": 64,
    "activitynet": 150,
    "didemo": 64,
    "lsmdc": 96,
    "ssv2_label": 25,
    "ssv2_template": 25,
    "msrvtt_mc": 32,
}
QUESTION_LENGTH, ANSWER_LENGTH = 25, 5
_REMOVED = re.compile(r"[,.'!?\"()*#:;~]")
_SPACES = re.compile(r"\s{2,}")


def clean_caption(text: str, max_words: int | None = None) -> str:
    """A caption in lower case without punctuation, as UMT was trained on them.

    Args:
      text: may be empty.
      max_words: cut after so many words; None: keep all.
    """
    text = _REMOVED.sub("", text.lower()).replace("-", " ").replace("/", " ")
    text = _SPACES.sub(" ", text.replace("<person>", "person")).rstrip("\n").strip(" ")
    return text if max_words is None else " ".join(text.split(" ")[:max_words])


class BertTokenizer(Tokenizer):
    """WordPiece of cleaned captions between [CLS] and [SEP], in lower case.

    Attributes:
      mask_id: of [MASK].
    """

    def __init__(self, library: tokenizers.Tokenizer):
        """Takes a tokenizer of the library.

        Raises:
          ValueError: if its vocabulary lacks one of BERT's special tokens.
        """
        super().__init__(library)
        missing = [token for token in SPECIAL if library.token_to_id(token) is None]
        if missing:
            raise ValueError(f"this is no vocabulary of BERT: it lacks {missing}")
        self.mask_id: int = library.token_to_id("[MASK]")

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> BertTokenizer:
        """Reads a vocab.txt, a `tokenizer.json` or the folder of one.

        Raises:
          FileNotFoundError: if there is none; says where to get one.
          ValueError: if the file is no such vocabulary.
        """
        path = os.path.expanduser(os.fspath(path))
        inside = os.path.join(path, "vocab.txt")
        if os.path.isdir(path) and not os.path.isfile(os.path.join(path, "tokenizer.json")):
            path = inside
        try:
            if path.endswith(".txt") and os.path.isfile(path):
                return cls(_library_of(path))
            return super().open(path)
        except FileNotFoundError:
            raise FileNotFoundError(
                f"there is no vocabulary {path}; BERT's vocab.txt lies beside its weights "
                "(google-bert/bert-base-uncased on huggingface.co)"
            ) from None

    def clean(self, text: str) -> str:
        """See `clean_caption`."""
        return clean_caption(text)

    def masked(self, texts: Sequence[str], context: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids and mask of texts.

        Args:
          texts: B texts.
          context: L, ids a text.

        Returns:
          ids [B, L] int32 and mask [B, L] int32, 0 for padding.
        """
        encoded = [self.encode(text, context) for text in texts]
        counts = np.array([count for _, count in encoded], np.int32).reshape(-1, 1)
        ids = np.stack([ids for ids, _ in encoded]) if encoded else np.zeros((0, context), np.int32)
        return ids, (np.arange(context) < counts).astype(np.int32)


class BertAnswers(BertTokenizer):
    """WordPiece of answers to questions, which are not cleaned and end in a second [SEP].

    So UMT was trained: it writes " [SEP]" behind an answer, and its tokenizer another one.
    """

    def clean(self, text: str) -> str:
        """The text as it is."""
        return text

    def encode(self, text: str, length: int) -> tuple[np.ndarray, np.int32]:
        """See `Tokenizer.encode`; the second [SEP] is there where it has room."""
        ids, count = super().encode(text, length)
        if count < length:
            ids[count], count = self._library.token_to_id("[SEP]"), count + 1
        return ids, np.int32(count)


def _library_of(path: str) -> tokenizers.Tokenizer:
    """WordPiece as bert-base-uncased has it, of a vocabulary with a token a line."""
    with open(path, encoding="utf-8") as file:
        tokens = file.read().splitlines()
    numbers = {token: number for number, token in enumerate(tokens)}
    missing = [token for token in SPECIAL if token not in numbers]
    if missing:
        raise ValueError(f"{path} is no vocabulary of BERT: it lacks {missing}")
    library = tokenizers.Tokenizer(models.WordPiece(numbers, unk_token="[UNK]"))
    library.normalizer = normalizers.BertNormalizer(lowercase=True)
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    library.decoder = decoders.WordPiece()
    library.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(token, numbers[token]) for token in ("[CLS]", "[SEP]")],
    )
    library.add_special_tokens(list(SPECIAL))
    return library
