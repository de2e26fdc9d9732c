"""UMT's first stage of pre-training: a video encoder learns CLIP's features of the tokens it sees.

Source: "Unmasked Teacher" (arXiv 2303.16058, section 3.2), OpenGVLab/unmasked_teacher,
single_modality.
"""

from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from fluxjax.checkpoints.starting import start_model
from fluxjax.models import create_model
from fluxjax.models.umt_vision import UmtVision
from fluxjax.tasks.base import Batch, Constants, LossOutput, Plan, batch_spec
from fluxjax.tasks.parameter_groups import layer_decay
from fluxjax.tasks.teacher import COLLECTION
from fluxjax.tasks.umt_losses import unit, uta_loss
from fluxjax.tasks.unmasked_teacher import Lesson, UnmaskedTeacher, frame_draws
from fluxjax.tokens import grids
from fluxjax.tokens.examples import ClipSpec, ExampleSpec


class PretrainVideoTask:
    """Features of a teacher (UTA) alone, without captions.

    Attributes:
      config: see `fluxjax.config.keys.base_config`; `config.pretrain_umt` has the task's own keys,
        of which those of texts have no effect.
      model: a `UmtVision` with decoders.
      teacher: CLIP's image encoder, frame by frame.
      grid: the sampling grid of training.
    """

    def __init__(self, config: ConfigDict):
        """Builds student and teacher.

        Raises:
          FileNotFoundError: if the teacher's folder is not there.
          ValueError: on another model or teacher, several grids, or tokens of several frames.
        """
        self.config = config
        self.teacher = UnmaskedTeacher(config)
        fields = {name: x for name, x in config.model.to_dict().items() if x is not None}
        name, dtype = fields.pop("name"), jnp.dtype(fields.pop("dtype"))
        self.model = create_model(name, None, dtype=dtype, **fields)
        if not isinstance(self.model, UmtVision) or not self.model.taught_layers:
            raise ValueError(
                "task 'pretrain_umt' needs a model of video and text, such as umt_b16, or a "
                f"student such as umt_student_b16; config.model.name={name!r} is neither"
            )
        self.model = self.model.clone(taught_width=self.teacher.model.embedding)
        if self.model.tubelet != 1:
            raise ValueError(
                f"config.model.tubelet={self.model.tubelet}: a teacher of frames needs a token a "
                "frame; set it to 1"
            )
        self.grid = grids.only_grid(config.grids.frames, config.grids.resolutions, name)

    def check(self) -> None:
        """The teacher has weights, and grids are multiples of the patch.

        Raises:
          ValueError: naming the key, the value and the remedy.
        """
        self.teacher.check(self.config.dry_run)
        for grid in (self.grid, *map(grids.parse_grid, self.config.eval.grids)):
            grids.check_patch(grid, self.model.patch)
        for key in ("mixing", "erasing"):
            if self.config[key].prob:
                raise ValueError(
                    f"config.{key}.prob={self.config[key].prob} has no effect on task "
                    "'pretrain_umt'; set it to 0.0"
                )

    def example(self) -> ExampleSpec:
        """A dense clip."""
        return self.eval_example(self.grid)

    def eval_example(self, grid: grids.Grid) -> ExampleSpec:
        """A dense clip on a grid, and its class for probes."""
        return ExampleSpec((ClipSpec((grid,), patch=self.model.patch),))

    def batch_spec(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
        """video [B, T, H, W, 3] uint8 and label [B] int32."""
        return batch_spec(self.example(), batch_size)

    def plans(self) -> tuple[Plan, ...]:
        """One plan."""
        return (Plan("pretrain_umt", grid=self.grid),)

    def evaluators(self) -> tuple[str, ...]:
        """The loss on test videos."""
        return ("held_out",)

    def eval_plans(self, grid: grids.Grid) -> dict[None, Plan]:
        """One plan a grid."""
        return {None: Plan("eval", grid=grid)}

    def init(self, key: jax.Array) -> dict[str, Any]:
        """Fresh variables of the student."""
        side = 2 * self.model.patch
        return self.model.init(key, jnp.zeros((1, 1, side, side, 3)))

    def start_from(self, directory: str, variables: Any) -> dict[str, Any]:
        """Fresh variables with the parameters of an inference checkpoint in their places."""
        return start_model(directory, self.model, variables)

    def constants(self) -> Constants:
        """The teacher's parameters."""
        return self.teacher.constants()

    def groups(self, params: Any) -> Any:
        """Layer decay and weight decay of every parameter, see `parameter_groups.layer_decay`."""
        return layer_decay(self.model, params, self.config.optim)

    def loss(self, variables: Any, batch: Batch, key: jax.Array, plan: Plan) -> LossOutput:
        """Term uta, the teacher's distance at the tokens that are seen."""
        del plan
        see, drop = jax.random.split(key)
        video = batch["video"]
        lesson = self.lesson(variables, video, frame_draws(see, video, self.model.patch))
        decoded = self.decoded(variables, lesson, train=True, rngs={"dropout": drop})
        return LossOutput({"uta": (uta_loss(decoded, unit(lesson.features)), 1.0)}, {}, {})

    def losses(self, variables: Any, batch: Batch, plan: Plan) -> dict[str, jax.Array]:
        """uta of each clip, [B] float32; every clip sees the places of the same draws."""
        del plan
        video = batch["video"]
        draws = frame_draws(jax.random.key(self.config.seed), video[:1], self.model.patch)
        lesson = self.lesson(variables, video, jnp.tile(draws, (len(video), 1)))
        away = jnp.square(self.decoded(variables, lesson) - unit(lesson.features))
        return {"uta": jnp.mean(jnp.sum(away, axis=-1), axis=(0, 2))}

    def features(self, variables: Any, batch: Batch, plan: Plan) -> jax.Array:
        """Pooled tokens, [B, C] float32, of all that there are."""
        del plan
        return self.model.apply(_own(variables), batch["video"])[1]

    def lesson(self, variables: Any, video: jax.Array, draws: jax.Array) -> Lesson:
        """What the student sees and is to say, see `UnmaskedTeacher.teach`."""
        return self.teacher.teach(
            variables, video, draws, self.model.taught_layers, self.model.patch
        )

    def decoded(self, variables: Any, lesson: Lesson, **options: Any) -> jax.Array:
        """What the student says, [L, B, K, E] float32, unit norm."""
        student = self.model.apply(
            _own(variables), lesson.video, lesson.visible, method="student", **options
        )
        return unit(student.decoded)


def _own(variables: Any) -> dict[str, Any]:
    return {name: value for name, value in variables.items() if name != COLLECTION}
