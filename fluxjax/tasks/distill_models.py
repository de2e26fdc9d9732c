"""The two models of a distillation: a student that fits its teacher, and what each sees."""

from typing import Any

from ml_collections import ConfigDict

from fluxjax.models.dense_clips import one_grid
from fluxjax.models.registry import model_class, model_fields
from fluxjax.tasks.teacher import headless_model
from fluxjax.tokens.resizing import resize_bicubic
from fluxjax.tokens.tokens import Tokens, normalize_pixels, unpatchify


def student_model(config: ConfigDict, teacher: Any) -> Any:
    """The config's model with decoders to the teacher's widths.

    Raises:
      ValueError: if it is no student, not one of this teacher, or its patches do not fit.
    """
    name = config.model.name
    fields = model_fields(name)
    if not hasattr(model_class(name), "align"):
        raise ValueError(
            f"config.model.name={name!r} is no student: task 'distill' trains fluxvit_student_*, "
            "internvideo2_student_* and umt_student_*"
        )
    of_videos = hasattr(teacher, "pooled")
    if of_videos != ("teacher_width" in fields):
        kind, wanted = type(teacher).__name__, "fluxvit_student_* or internvideo2_student_*"
        raise ValueError(
            f"{kind} cannot teach {name!r}, whose tokens are others; set config.model.name to "
            f"one of {wanted if of_videos else 'umt_student_*'}"
        )
    if of_videos:
        given = {"teacher_width": teacher.width, "teacher_final": teacher.pooled}
    else:
        given = {"taught_width": teacher.embedding}
    if "budgets" in fields:  # a pooling projector for each
        given["budgets"] = tuple(config.budgets)
    model = headless_model(config, **given)
    if of_videos and model.patch != teacher.patch:
        raise ValueError(
            f"the student has patches of {model.patch} pixels, the teacher of {teacher.patch}: set "
            "config.model.patch to the same, both see the same tokens"
        )
    if not of_videos and model.tubelet != 1:
        raise ValueError(
            f"config.model.tubelet={model.tubelet} must be 1: the teacher's tokens are of one frame"
        )
    return model


def seen_by_teacher(clips: Tokens, student: Any, teacher: Any) -> Tokens:
    """A student's clips as its teacher sees them, on the same grid of tokens.

    Pixels are normalised as the student's, and clips resized where the teacher's patches are of
    another size, as in the official code of UMT: CLIP-L/14 sees 196 pixels where the student of
    patch 16 sees 224.

    Args:
      clips: pixels [B, N, D], of one static grid where patches differ.
      student, teacher: the models.
    """
    if (student.patch, student.pixels) == (teacher.patch, teacher.pixels):
        return clips
    pixels = normalize_pixels(clips.values, student.pixels)
    if student.patch == teacher.patch:
        return clips.replace(values=pixels)
    grid = one_grid(clips, f"a {type(teacher).__name__} as teacher")
    video = unpatchify(pixels, grid, student.patch)
    size = tuple(side * teacher.patch for side in grid[1:])
    return Tokens.from_video(resize_bicubic(video, size), teacher.patch)
