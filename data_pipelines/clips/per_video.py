"""What an example has once, whatever its clips: text, answers and targets."""

from collections import Counter

import numpy as np

from data_pipelines.sources.records import Catalog, Record
from fluxjax.tokens.examples import ExampleSpec, TextSpec

Item = dict[str, np.ndarray]


class PerVideo:
    """What an example has once, whatever its clips: text and targets."""

    def __init__(self, catalog: Catalog, spec: ExampleSpec):
        """Opens the vocabulary, and numbers equal captions, where the spec asks for them.

        Raises:
          ValueError: if it asks for text of videos that have no captions.
          OSError: if the vocabulary cannot be read.
        """
        self._spec = spec
        self._groups = catalog.groups() if "group" in spec.targets else None
        self._tokenizer = None if spec.text is None else _tokenizer(spec.text)
        self._answers = None if spec.answers is None else _tokenizer(spec.answers.text)

    def arrays(
        self, record: Record | None, index: int, rng: np.random.Generator | None = None
    ) -> Item:
        """text [L] int32, text_length, answers, and targets, scalars.

        Of no record: no tokens, and targets of -1 (but a relevancy of 0).

        Args:
          record: None for padding, and for a video that cannot be read.
          index: of the record in the catalog.
          rng: draws the caption; None takes the first.
        """
        item: Item = {}
        if "label" in self._spec.targets:
            item["label"] = np.int32(-1 if record is None else record.label)
        if self._groups is not None:
            item["group"] = np.int32(-1 if record is None else self._groups[index])
        if "draw" in self._spec.targets:
            item["draw"] = np.int32(index)
        number = (
            0 if record is None or rng is None else int(rng.integers(max(len(record.captions), 1)))
        )
        if self._tokenizer is not None:
            item["text"], item["text_length"] = self._tokenizer.encode(
                _caption(record, number), self._spec.text.length
            )
        if self._answers is not None:
            item |= self._answer_arrays(record)
        if "relevancy" in self._spec.targets:
            graded = record is not None and record.relevancies
            value = record.relevancies[number] if graded else float(record is not None)
            item["relevancy"] = np.float32(value)
        return item

    def _answer_arrays(self, record: Record | None) -> Item:
        """See `AnswersSpec.arrays`; of equally frequent answers those that were given first."""
        if record is not None and not record.answers:
            raise ValueError(
                f"{record.name} has no answer, and the task needs one; name an annotation file "
                "with the keys question and answer"
            )
        given = () if record is None else record.answers
        spec = self._spec.answers
        item = {name: np.zeros(shape, kind) for name, (shape, kind) in spec.arrays().items()}
        for i, (text, times) in enumerate(Counter(given).most_common(spec.count)):
            item["answer"][i], item["answer_length"][i] = self._answers.encode(
                text, spec.text.length
            )
            item["answer_weight"][i] = times / len(given)
        return item


def _tokenizer(spec: TextSpec):
    from data_pipelines.text.kinds import tokenizer  # only where there is text

    made = tokenizer(spec.kind, spec.tokenizer)
    if spec.ids is not None and made.vocab_size > spec.ids:
        raise ValueError(
            f"{spec.tokenizer} has {made.vocab_size} ids, the model knows {spec.ids}; give the "
            "model's own vocabulary, or set config.model.vocab_size"
        )
    return made


def _caption(record: Record | None, number: int) -> str:
    if record is None:
        return ""
    if not record.captions:
        raise ValueError(
            f"{record.name} has no caption, and the task needs text; name data with captions "
            "(demo:captions, or an annotation file with the key caption)"
        )
    return record.captions[number]
