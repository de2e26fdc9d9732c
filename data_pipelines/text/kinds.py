"""Tokenizers by the kind of model that reads their ids."""

from __future__ import annotations

import difflib
import importlib
import os
import tempfile

from data_pipelines.text.demo import write_vocabulary, write_words
from data_pipelines.text.tokenizer import Tokenizer

DEMO = "demo:captions"

# Kind -> where its class is; imported once it is asked for.
_KINDS = {
    "file": ("data_pipelines.text.tokenizer", "Tokenizer"),  # as the tokenizer.json says
    "bert": ("data_pipelines.text.bert", "BertTokenizer"),
    "bert_answer": ("data_pipelines.text.bert", "BertAnswers"),
    "clip": ("data_pipelines.text.clip", "ClipTokenizer"),
}


def tokenizer(kind: str, vocabulary: str | os.PathLike[str]) -> Tokenizer:
    """The tokenizer of a kind: call it with captions for ids [B, context].

    Args:
      kind: "bert" and "clip" clean captions as UMT and CLIP do, "bert_answer" is for answers to
        questions, as UMT has them; "file" does what a `tokenizer.json` says.
      vocabulary: path of a vocabulary; BERT's vocab.txt, CLIP's bpe_simple_vocab_16e6.txt.gz, or a
        `tokenizer.json`; "demo:captions" is one of the demo corpus's captions.

    Raises:
      FileNotFoundError: if there is no vocabulary; says where to get one.
      ValueError: on an unknown kind, or a file that is no vocabulary.
    """
    if kind not in _KINDS:
        near = difflib.get_close_matches(kind, _KINDS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown kind of tokenizer {kind!r}{hint} (known: {sorted(_KINDS)})")
    module, name = _KINDS[kind]
    opened = getattr(importlib.import_module(module), name).open
    if os.fspath(vocabulary) != DEMO:
        return opened(vocabulary)
    with tempfile.TemporaryDirectory() as folder:
        words = kind.startswith("bert")
        path = os.path.join(folder, "vocab.txt" if words else "tokenizer.json")
        (write_words if words else write_vocabulary)(path)
        return opened(path)
