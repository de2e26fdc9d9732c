"""Students of video teachers: a FluxViT or InternVideo2 that sees a few tokens, and decoders.

Sources: OpenGVLab/InternVideo, InternVideo2/single_modality (distillation, and pre-training of
stage 1); "Make Your Training Flexible" (arXiv 2503.14237), Flux-UMT, whose code is not released:
what is decided here in its place is in `fluxjax.tasks.distill_keys`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from fluxjax.models.alignment import AlignmentDecoder
from fluxjax.models.fluxvit import FluxViT
from fluxjax.models.internvideo2 import InternVideo2, return_layers
from fluxjax.models.token_decoders import TokenDecoders
from fluxjax.models.trunk import run_blocks
from fluxjax.tokens.tokens import Tokens, gather


class Visible(NamedTuple):
    """Which tokens a student sees.

    Attributes:
      index: [B, n] int32, slots of the clips' tokens, ascending.
      valid: [B, n] bool, a prefix; None: all are.
    """

    index: jax.Array
    valid: jax.Array | None = None


class Aligned(NamedTuple):
    """What is compared with a teacher at one budget; unit vectors, float32.

    Attributes:
      middle: [K, B, 1+n, Ct], cls and visible tokens, shallow layers first; [K, B, n, Ct] of a
        student without cls token.
      final: [B, Ef]; None of a student without such a decoder.
      mae: [K', B, n, Cm], for a VideoMAE teacher; None of a student without such decoders.
    """

    middle: jax.Array
    final: jax.Array | None
    mae: jax.Array | None = None


def aligned_blocks(model: nn.Module) -> tuple[int, ...]:
    """Blocks of a student whose outputs are aligned, ascending."""
    index = getattr(model, "taught_index", None)
    if index is not None:
        return tuple(sorted(index))
    return return_layers(model.depth, model.taught_layers, model.taught_interval)


class InternVideo2Student(InternVideo2):
    """InternVideo2 with the decoders of distillation and of stage-1 pre-training.

    Attributes:
      num_classes: None: a student has no head; fine-tune a model that starts from it.
      taught_layers, taught_interval: blocks that are aligned, see `return_layers`.
      taught_index: these blocks instead.
      teacher_width: Ct, of the teacher's tokens.
      teacher_final: Ef, of its pooled features; 0: these are not aligned.
      hidden: decoders have a hidden layer, as in distillation; False: as in stage 1.
      mae_layers: the last blocks that are aligned with a VideoMAE teacher; 0: none is.
      mae_width: Cm, of that teacher's tokens.

    The rest is of `InternVideo2`.
    """

    num_classes: int | None = None
    taught_layers: int = 6
    taught_interval: float = 1.0
    taught_index: tuple[int, ...] | None = None
    teacher_width: int = 1408
    teacher_final: int = 768
    hidden: bool = True
    mae_layers: int = 0
    mae_width: int = 1408

    def setup(self):
        """Builds the layers."""
        super().setup()
        sizes = {"width": self.width, "grid": self.grid, "dtype": self.dtype}
        self.token_decoders = TokenDecoders(
            len(aligned_blocks(self)), features=self.teacher_width, hidden=self.hidden, **sizes
        )
        if self.teacher_final:
            self.final_decoder = AlignmentDecoder(self.teacher_final, self.hidden, self.dtype)
        if self.mae_layers:
            self.mae_decoders = TokenDecoders(
                self.mae_layers, features=self.mae_width, cls=False, **sizes
            )

    def align(
        self,
        video_or_tokens: jax.Array | Tokens,
        visible: Sequence[Visible],
        train: bool = False,
    ) -> list[Aligned]:
        """What is compared with a teacher, at each budget.

        Args:
          video_or_tokens: clips [B, T, H, W, 3] or tokens [B, N, D], as in `__call__`.
          visible: for each budget the tokens that are seen.
          train: drop paths are active (needs rngs={"dropout": key}).
        """
        return [self._aligned(tokens, train) for tokens in _seen(self, video_or_tokens, visible)]

    def features(self, video_or_tokens: jax.Array | Tokens) -> jax.Array:
        """What a probe reads of clips as in `__call__`: pooled features [B, pooled] float32."""
        return self(video_or_tokens)

    def _aligned(self, tokens: Tokens, train: bool) -> Aligned:
        x, valid = self._with_cls(tokens)
        taught, last = aligned_blocks(self), range(self.depth - self.mae_layers, self.depth)
        layers = sorted({*taught, *last})
        x, valid, outputs = run_blocks(self, x, valid, train, layers)
        outputs = dict(zip(layers, outputs, strict=True))
        pooled = self.pooler(x, valid)
        final = self.final_decoder(pooled) if self.teacher_final else None
        mae = None
        if self.mae_layers:
            mae = self.mae_decoders([outputs[i] for i in last], tokens)
        middle = self.token_decoders([outputs[i] for i in taught], tokens)
        return Aligned(middle, final, mae)


class FluxStudent(FluxViT):
    """FluxViT with the decoders of Flux-UMT; pooling projector i is trained at budget i.

    Attributes:
      num_classes: None: a student has no heads; fine-tune a FluxViT that starts from it.
      taught_layers, taught_interval, taught_index, teacher_width, teacher_final, hidden: see
        `InternVideo2Student`. All budgets share the decoders of tokens.
      taught_positions: the decoders of tokens get a position table of their own. The ancestor has
        one; with flexible grids it is resampled like the first.
      final_decoders: of the pooled features, "shared" by all budgets, as the projectors before
        them are one a budget already, or "per_budget".

    The rest is of `FluxViT`.
    """

    num_classes: int | None = None
    budgets: tuple[int, ...] = (2048, 1536, 1024)
    taught_layers: int = 6
    taught_interval: float = 1.0
    taught_index: tuple[int, ...] | None = None
    teacher_width: int = 1408
    teacher_final: int = 768
    hidden: bool = True
    taught_positions: bool = True
    final_decoders: str = "shared"

    def setup(self):
        """Builds the layers.

        Raises:
          ValueError: on an unknown kind of final decoders.
        """
        super().setup()
        kinds = ("shared", "per_budget")
        if self.final_decoders not in kinds:
            raise ValueError(
                f"final_decoders={self.final_decoders!r} is unknown; choose one of {kinds}"
            )
        self.token_decoders = TokenDecoders(
            len(aligned_blocks(self)),
            self.width,
            self.teacher_width,
            self.hidden,
            grid=self.grid if self.taught_positions else None,
            dtype=self.dtype,
        )
        if self.teacher_final:
            count = 1 if self.final_decoders == "shared" else len(self.budgets)
            final = (self.teacher_final, self.hidden, self.dtype)
            self.final_decoder = [AlignmentDecoder(*final) for _ in range(count)]

    def align(
        self,
        video_or_tokens: jax.Array | Tokens,
        visible: Sequence[Visible],
        train: bool = False,
    ) -> list[Aligned]:
        """What is compared with a teacher, at each budget; see `InternVideo2Student.align`.

        Patches [B, N, D] are embedded and positions looked up once for all budgets.

        Raises:
          ValueError: on more budgets than projectors.
        """
        if len(visible) > len(self.budgets):
            raise ValueError(
                f"{len(visible)} budgets need as many projectors, the model has "
                f"{len(self.budgets)}; create it with as many budgets"
            )
        budgets = enumerate(_seen(self, video_or_tokens, visible))
        return [self._aligned(tokens, i, train) for i, tokens in budgets]

    def features(self, video_or_tokens: jax.Array | Tokens) -> jax.Array:
        """What a probe reads of clips as in `__call__`: pooled features [B, pooled] float32."""
        return self(video_or_tokens)

    def _aligned(self, tokens: Tokens, budget: int, train: bool) -> Aligned:
        x, valid = self._with_cls(tokens)
        x, valid, taught = run_blocks(self, x, valid, train, aligned_blocks(self))
        middle, pooled = self.token_decoders(taught, tokens), self.poolers[budget](x, valid)
        if not self.teacher_final:
            return Aligned(middle, None)
        decode = self.final_decoder[min(budget, len(self.final_decoder) - 1)]
        return Aligned(middle, decode(pooled))


def _seen(
    model: FluxStudent | InternVideo2Student,
    video_or_tokens: jax.Array | Tokens,
    visible: Sequence[Visible],
) -> list[Tokens]:
    """For each budget the visible tokens, embedded and with positions: both are made once."""
    tokens, positions = model.embed(video_or_tokens)
    placed = tokens.values + positions.look_up(tokens).astype(model.dtype)
    placed = tokens.replace(values=placed)
    seen = []
    for index, valid in visible:
        mask = jnp.ones(index.shape, bool) if valid is None else valid
        seen.append(gather(placed, index, mask).replace(padded=valid is not None))
    return seen
