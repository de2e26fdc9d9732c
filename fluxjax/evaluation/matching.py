"""Which pairs of videos and texts match: a model's matching head on some of all pairs.

A video's tokens are large, 4.5 MB of UMT's B/16 with 12 frames merged to 1452 tokens, so those of
one batch at a time are held, on the devices, and their pairs are matched before the next batch.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fluxjax.evaluation.base import EvalData
from fluxjax.evaluation.passes import Passes
from fluxjax.tasks.base import Plan
from fluxjax.tokens.grids import Grid

# Texts that are matched with one video at a time, whose keys are made once for all of them, and how
# many such groups a device takes at once.
TEXTS, GROUPS = 16, 4
ENCODED = 2048  # texts whose padded states are held at a time


class Pairs(NamedTuple):
    """Pairs to be matched, each once, in order of their videos and then their texts.

    Attributes:
      video: [P] int64, numbers of examples.
      text: [P] int64, numbers of texts.
    """

    video: np.ndarray
    text: np.ndarray

    @classmethod
    def of(cls, video: np.ndarray, text: np.ndarray) -> "Pairs":
        """From pairs in any order, some of them several times."""
        base = int(text.max(initial=0)) + 1
        codes = np.unique(np.asarray(video, np.int64) * base + text)
        return cls(*np.divmod(codes, base))

    def find(self, video: np.ndarray, text: np.ndarray) -> np.ndarray:
        """Places of pairs, all of which are among these; arrays of one shape."""
        base = int(self.text.max(initial=0)) + 1
        codes = self.video * base + self.text
        return np.searchsorted(codes, np.asarray(video, np.int64) * base + text)


class TextStates:
    """States of the tokens of texts, without their padding, on the host.

    10,000 captions of 12 tokens of width 768 take 0.4 GB.
    """

    def __init__(self, states: Sequence[np.ndarray], lengths: np.ndarray, padded: int):
        """Takes [tokens, C] in parts, all tokens of the texts in a row; lengths [M]; L."""
        self._states = np.concatenate(states)
        self._first = np.concatenate([[0], np.cumsum(lengths)])
        self._lengths, self._padded = lengths, padded

    def padded(self, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """States [.., L, C] and lengths [..] int32 of texts [..]; of text -1 none."""
        real = texts >= 0
        lengths = np.where(real, self._lengths[texts], 0).astype(np.int32)
        places = self._first[texts][..., None] + np.arange(self._padded)
        inside = np.arange(self._padded) < lengths[..., None]
        states = self._states[np.where(inside, places, 0)]
        return np.where(inside[..., None], states, 0), lengths


class Matcher:
    """What the matching head says of chosen pairs; the same on every process.

    The task has `text_states`, `video_states` and `match`, see `Task`.
    """

    def __init__(self, passes: Passes, data: EvalData):
        """Runs through `passes`; texts are encoded as `data` does."""
        self._passes, self._data = passes, data

    def texts(self, variables: Any, grid: Grid, plan: Plan, texts: Sequence[str]) -> TextStates:
        """Encodes texts, each once."""
        spec = self._passes.task.eval_example(grid).text
        states, lengths = [], []
        for start in range(0, len(texts), ENCODED):
            some = texts[start : start + ENCODED]
            length = self._data.encode(some, spec)["text_length"]
            padded = self._passes.texts(self._text_states, plan, spec, some, variables)
            states.append(padded[np.arange(padded.shape[1]) < length[:, None]])
            lengths.append(length)
        return TextStates(states, np.concatenate(lengths), spec.length)

    def logits(
        self, variables: Any, grid: Grid, plan: Plan, pairs: Pairs, states: TextStates
    ) -> np.ndarray:
        """Logits [P, 2] float32 of every pair, 1 is a match; reads the videos.

        Args:
          variables: of the task's model.
          grid: sampling grid of the clips.
          plan: how to run the model.
          pairs: of test videos that can be read.
          states: of the texts.
        """
        found = np.full((len(pairs.video), 2), np.nan, np.float32)
        run = self._passes.run(
            self._video_states, {None: plan}, grid, variables, "test", on_host=False
        )
        for outputs in run:
            tokens, examples = outputs[None].value
            for places, rows in _groups(pairs, jax.device_get(examples)):
                values = self._match(variables, plan, tokens, rows, places, pairs, states)
                found[places[places >= 0]] = values[places >= 0]
        return found

    def _match(self, variables, plan, tokens, rows, places, pairs, states) -> np.ndarray:
        """Logits [groups, TEXTS, 2] of texts with the videos of a batch."""
        texts = np.where(places >= 0, pairs.text[places], -1)
        count, values = GROUPS * self._passes.shards, []
        for start in range(0, len(rows), count):
            some = slice(start, start + count)
            padded, lengths = states.padded(texts[some])
            batch = {"row": rows[some], "states": padded, "length": lengths}
            placed = self._passes.put_rows(batch, count) | {"tokens": tokens}
            program = self._passes.program(self._logits, plan, variables, placed)
            values.append(jax.device_get(program(variables, placed)))
        return np.concatenate(values)[: len(rows)]

    def _text_states(self, variables: Any, batch: Mapping[str, jax.Array], plan: Plan) -> jax.Array:
        return self._passes.task.text_states(variables, batch, plan)

    def _video_states(self, variables: Any, batch: Mapping[str, jax.Array], plan: Plan) -> tuple:
        clips, videos, views = self._passes.merged(batch)
        states = self._passes.task.video_states(variables, clips, plan)
        # Of several views a text sees the tokens of all.
        return states.reshape(videos, -1, states.shape[-1]), batch["example"]

    def _logits(self, variables: Any, batch: Mapping[str, jax.Array], plan: Plan) -> jax.Array:
        groups, texts, length, width = batch["states"].shape
        mask = jnp.arange(length) < batch["length"][..., None]
        logits = self._passes.task.match(
            variables,
            batch["states"].reshape(-1, length, width),
            mask.reshape(-1, length).astype(jnp.int32),
            batch["tokens"][batch["row"]],
            plan,
        )
        return logits.reshape(groups, texts, 2)


def _groups(pairs: Pairs, examples: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The pairs of a batch of videos [B], `TEXTS` of one video in a row.

    Yields:
      places [G, TEXTS] int64 among the pairs, -1 where there is none, and rows [G] int32 of the
      batch; at most once, and not at all of videos without pairs.
    """
    first = np.searchsorted(pairs.video, examples)
    end = np.searchsorted(pairs.video, examples, side="right")
    places, rows = [], []
    for row, (a, b) in enumerate(zip(first, end, strict=True)):
        for start in range(a, b, TEXTS):
            place = np.arange(start, start + TEXTS)
            places.append(np.where(place < b, place, -1))
            rows.append(row)
    if rows:
        yield np.stack(places), np.array(rows, np.int32)
