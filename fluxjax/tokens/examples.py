"""What a task wants of a video, as data: clips, text and targets.

A task declares it, `data_pipelines` makes it as a pure function of (seed, epoch, example), and a
batch holds the arrays that `ExampleSpec.arrays` names. Like `grids`, nothing here imports JAX.
"""

import dataclasses

import numpy as np

from fluxjax.tokens.grids import PATCH, Grid

# Name of an array in a batch -> (shape of one example, dtype).
Arrays = dict[str, tuple[tuple[int, ...], np.dtype]]

TARGETS = {
    "label": np.dtype(np.int32),
    "group": np.dtype(np.int32),
    "draw": np.dtype(np.int32),
    "relevancy": np.dtype(np.float32),
}
# Arrays that a video has once, however many clips or views are cut from it.
_ANSWERS = ("answer", "answer_length", "answer_weight")
PER_VIDEO = (*TARGETS, "text", "text_length", *_ANSWERS, "weight", "readable", "example")


@dataclasses.dataclass(frozen=True)
class ClipSpec:
    """One clip of a video.

    Attributes:
      grids: sampling grids; one is drawn, for the whole batch or for every example.
      name: put before the names of its arrays, with an underscore; "" for the only clip.
      slots: token slots that its patches are packed into, which lets grids differ; None: dense
        frames, which needs all grids equal.
      patch: pixels a side of a patch.
      sampling: name of the frame sampler; None: what the data say.
    """

    grids: tuple[Grid, ...]
    name: str = ""
    slots: int | None = None
    patch: int = PATCH
    sampling: str | None = None

    def __post_init__(self):
        if not self.grids:
            raise ValueError(f"clip {self.name!r} needs a sampling grid")
        if self.slots is None and len(set(self.grids)) > 1:
            raise ValueError(
                f"clip {self.name!r} of dense frames needs one sampling grid, not "
                f"{', '.join(map(str, self.grids))}; set slots to pack clips on several"
            )

    def key(self, array: str) -> str:
        """The name in a batch of one of the clip's arrays: patches, grid or video."""
        return f"{self.name}_{array}" if self.name else array

    def __str__(self) -> str:
        tokens = [grid.tokens(self.patch) for grid in self.grids]
        if self.slots is None:
            return f"frames of {self.grids[0]}"
        return f"{len(self.grids)} sampling grids of {min(tokens)} to {max(tokens)} tokens"

    def arrays(self) -> Arrays:
        """patches [slots, patch*patch*3] uint8 and grid [3] int32, or video [T, H, W, 3] uint8."""
        if self.slots is None:
            frames, side = self.grids[0]
            return {self.key("video"): ((frames, side, side, 3), np.dtype(np.uint8))}
        return {
            self.key("patches"): ((self.slots, self.patch**2 * 3), np.dtype(np.uint8)),
            self.key("grid"): ((3,), np.dtype(np.int32)),
        }


@dataclasses.dataclass(frozen=True)
class TextSpec:
    """One caption of a video, drawn of those it has.

    Attributes:
      length: token ids, padded or cut to so many.
      tokenizer: path of the vocabulary, see `data_pipelines.text`.
      kind: of tokenizer, see `data_pipelines.text.kinds`.
      ids: that the model knows; a vocabulary of more is refused. None: any.
    """

    length: int
    tokenizer: str
    kind: str = "file"
    ids: int | None = None

    def arrays(self) -> Arrays:
        """text [length] int32 and text_length int32 scalar."""
        return {
            "text": ((self.length,), np.dtype(np.int32)),
            "text_length": ((), np.dtype(np.int32)),
        }


@dataclasses.dataclass(frozen=True)
class AnswersSpec:
    """The different answers to the question that is a video's caption.

    Attributes:
      text: how an answer becomes token ids.
      count: answers, the most frequent; a question with fewer has some of weight 0.
    """

    text: TextSpec
    count: int = 1

    def arrays(self) -> Arrays:
        """answer [count, length] and answer_length [count] int32, answer_weight [count] float32.

        A weight is the share of people that gave the answer.
        """
        return {
            "answer": ((self.count, self.text.length), np.dtype(np.int32)),
            "answer_length": ((self.count,), np.dtype(np.int32)),
            "answer_weight": ((self.count,), np.dtype(np.float32)),
        }


@dataclasses.dataclass(frozen=True)
class ExampleSpec:
    """One example: all clips share one joint augmentation, each draws its own frames.

    Attributes:
      clips: at least one, with different names.
      text: the caption; None for none.
      targets: of TARGETS: "label" is the class number, "group" a number that examples with equal
        captions share, "relevancy" how well the caption fits, 0 to 1, of data that grade captions
        (1 of others), "draw" a number drawn for what is random on the device: it depends on (seed,
        epoch, example) alone, in evaluation on the example. Soft classes are made of labels on the
        device, where clips are mixed.
      answers: to the question that is the caption; None for none.
    """

    clips: tuple[ClipSpec, ...]
    text: TextSpec | None = None
    targets: tuple[str, ...] = ("label",)
    answers: AnswersSpec | None = None

    def __post_init__(self):
        names = [clip.name for clip in self.clips]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"an example needs clips with different names, not {names}")
        for target in self.targets:
            if target not in TARGETS:
                raise ValueError(f"unknown target {target!r}; known: {tuple(TARGETS)}")

    def __str__(self) -> str:
        parts = [f"{clip.name}: {clip}" if clip.name else str(clip) for clip in self.clips]
        text = ["a question" if self.answers else "a caption"] if self.text else []
        return "; ".join([*parts, *text])

    def arrays(self) -> Arrays:
        """Every array of an example."""
        arrays: Arrays = {}
        for clip in self.clips:
            arrays |= clip.arrays()
        if self.text is not None:
            arrays |= self.text.arrays()
        if self.answers is not None:
            arrays |= self.answers.arrays()
        return arrays | {target: ((), TARGETS[target]) for target in self.targets}


def packed(grids: tuple[Grid, ...], slots: int, patch: int = PATCH) -> ExampleSpec:
    """One packed clip and its class: what classification of videos wants."""
    return ExampleSpec((ClipSpec(grids, slots=slots, patch=patch),))
