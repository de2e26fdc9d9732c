"""What only the task `distill` has in a config, and what each choice is.

Flux-UMT's code is not released. Where the paper ("Make Your Training Flexible", arXiv 2503.14237,
tables 2 to 5 and 14) does not say what is done, the defaults here are those of its ancestor, the
distillation of InternVideo2 (OpenGVLab/InternVideo, InternVideo2/single_modality), whose learning
rate, betas, drop path, warm-up and epochs are the paper's; or what makes sense, for the reason
given:

- Grids: drawn a batch from the paper's frames and resolutions (`config.grids`); both networks see
  the same pixels, since both have patches of 14.
- `select_by`: the teacher's frozen embedding ranks tokens. Whose does is not said; the teacher's
  stands still, so that what is selected does not drift with the student.
- The teacher sees `tokens` of them, at their places in the grid, with its own position table
  resampled; positions are gathered, never renumbered.
- `draws`: one race a clip gives nested sets of visible tokens, each budget's a subset of the
  larger ones'. Independent draws fit the text as well; nested ones compare budgets on the same
  tokens.
- `mask`: the paper's "class attention" of the teacher is taken as that of its pooling, as in the
  ancestor: the class token of this teacher is not what its features are read from.
- The student's `taught_positions` and `final_decoders`: see `fluxjax.models.students.FluxStudent`.
- `reduce`: the mean over budgets, of losses that are means over a budget's own tokens, so that the
  largest does not outweigh the others. A sum would only change the scale.
- The learning rate: the ancestor's code multiplies 1e-3 by batch / 256, and the fine-tuning table
  of the paper lists such unscaled values. 1e-3 at a batch of 2048 may so mean 8e-3; the recipe
  takes the value as it is printed (`fluxjax.config.recipes.flux_umt`).
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def distill_keys() -> ConfigDict:
    """The keys of `config.distill`; `config.budgets` are the student's tokens."""
    own = ConfigDict()
    # Run or inference checkpoint of the teacher, a model that has `teach`: an InternVideo2 for
    # students of FluxViT and InternVideo2, a CLIP image encoder for UMT's. Released weights:
    # python -m fluxjax.convert. Its weights are read, and never copied into the run's checkpoints.
    own.teacher = placeholder(str)
    own.teacher_model = "internvideo2_1b14"  # of a dry run, which may have no teacher
    own.teacher_hash = placeholder(str)  # filled in: sha256 of the teacher; another is refused
    own.teacher_dtype = "bfloat16"  # of its weights and computation; it is never trained
    own.teacher_interval = 3.34  # its layers: depth - 1 - int(i * interval), one for each student's
    own.tokens = placeholder(int)  # that the teacher sees; None: all of the clip
    own.selection = "group_dynamic"  # of these: one of fluxjax.tokens.selection.SELECTIONS
    own.select_by = "teacher"  # or student: whose embedding ranks them
    own.mask = "attention"  # what the student sees; random, or tube: the same places of all frames
    own.mask_over = "clip"  # its tokens are drawn of; frame: equally many of every frame, as UMT
    own.draws = "nested"  # or independent: of the budgets
    own.reduce = "mean"  # or sum: over budgets
    own.distance = "l2"  # of unit vectors; mse, smooth_l1: averaged over channels
    own.middle_weight = 1.0  # of the loss of tokens
    own.final_weight = 1.0  # of the loss of pooled features
    return own
