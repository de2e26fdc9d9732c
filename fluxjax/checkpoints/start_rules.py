"""What the models here may start from.

- A FluxViT from a FluxViT or, as in the paper's pre-training, from an InternVideo2, whose pooling
  projector and head start all of FluxViT's; the modules it does not have (dual patch norm, LPE,
  GPE, decoders) keep their initial values.
- An InternVideo2 from an InternVideo2.
- Where one of these is the student of a distillation, its decoders to the teacher are left there,
  or are new; of a Flux-CLIP the text tower and the projection are left.
- An EVL from an EVL, or with a fresh decoder from a CLIP image encoder or classifier.
- A CLIP classifier from either of these.
- A frame flexible network from one of its class; a plain one starts the norms of all branches.
- A VideoMAE classifier from another, or from a pre-training model: its decoder is dropped, norm and
  head are fresh. A pre-training model from another.
- A UMT from a UMT: what only one of them has (projections, matching head, decoders of features,
  words and answers) is fresh, or left out. From a UMT student of videos alone, or a UMT classifier:
  the text part is fresh. Such a student from another; such a classifier from a student or another.
- A Flux-CLIP from a Flux-CLIP, or its video tower from whatever a FluxViT starts from.
- An AVION from an AVION: a classifier from a dual encoder's video tower, with a fresh head.
"""

import re
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import numpy as np

from fluxjax.checkpoints.starting import HEAD, POSITION_TABLE, Rule, register_start
from fluxjax.models.avion import Avion
from fluxjax.models.clip_image import ClipImage
from fluxjax.models.evl import Evl
from fluxjax.models.flux_clip import FluxClip
from fluxjax.models.fluxvit import FluxViT
from fluxjax.models.frame_flexible.branches import BRANCHED
from fluxjax.models.frame_flexible.slowfast import SlowFast
from fluxjax.models.frame_flexible.tea import Tea
from fluxjax.models.frame_flexible.tsm import Tsm
from fluxjax.models.frame_flexible.uniformer import UniFormer
from fluxjax.models.internvideo2 import InternVideo2
from fluxjax.models.students import FluxStudent, InternVideo2Student
from fluxjax.models.umt import Umt
from fluxjax.models.umt_vision import UmtClassifier, UmtVision
from fluxjax.models.videomae import VideoMae
from fluxjax.models.videomae_pretraining import VideoMaePretraining

_NOTHING = re.compile("(?!)")
_OF_STUDENTS = r"|(token_decoders|final_decoder(_\d+)?|mae_decoders)/"
# One of each a budget: the checkpoint may have more or fewer of them. Towers have no fc_norm.
_PER_BUDGET = re.compile(r"(heads|poolers|decoders)_\d+/|fc_norm/" + _OF_STUDENTS)
# What InternVideo2 does not have: dual patch norm, LPE, GPE, decoders; backbones have no fc_norm.
_NOT_IN_INTERNVIDEO2 = re.compile(
    r"patch_embed/norm(_before)?/|blocks_\d+/attn/lpe/|gpe/|(heads|decoders)_\d+/|fc_norm/"
    + _OF_STUDENTS
)
_OF_CLIP = r"|(text|proj|logit_scale)(/|$)"
_AROUND_FLUX_CLIP = re.compile(_PER_BUDGET.pattern + _OF_CLIP)
_NOT_IN_FLUX_CLIP = re.compile(rf"{_NOT_IN_INTERNVIDEO2.pattern}|heads_\d+/{_OF_CLIP}")
_PROBE = re.compile(r"probe_(norm|mlp)/" + _OF_STUDENTS)
_NOT_IN_FLUX_STUDENTS = re.compile(rf"{_PROBE.pattern}|heads_\d+/|fc_norm/")
_AROUND_INTERNVIDEO2 = re.compile(rf"{_PROBE.pattern}|head/|fc_norm/")
_FLUX_FIELDS = ("depth", "num_heads", "pool_heads", "gelu")
_TOWER_FIELDS = ("depth", "num_heads", "patch", "ln_pre", "pixels")
_AROUND_CLIP = re.compile(r"(ln_post|proj|head)/")
_AROUND_AVION = re.compile(r"(proj|head|text|logit_scale)(/|$)|tower/temporal_table")
_UMT_VISION_FIELDS = ("depth", "num_heads", "patch", "tubelet", "position_scale")
_UMT_FIELDS = (*_UMT_VISION_FIELDS, "text_depth", "text_heads", "fusion_layer")
_AROUND_UMT = re.compile(
    r"(vision_proj|text_proj|match_head|answers|vision/(pool_norm|decoders_\d+)|text/transform\w*)/"
    r"|temperature$|text/token_bias$"
)
_AROUND_UMT_VISION = re.compile(r"(pool_norm|decoders_\d+)/")
_NOT_IN_UMT_VISION = re.compile(r"(?!vision/)|vision/(pool_norm|decoders_\d+)/")
_NOT_IN_UMT_CLASSIFIER = re.compile(r"(?!vision/)|vision/(norm|pool_norm|decoders_\d+)/")
_OF_UMT_CLASSIFIER = re.compile(r"(vision/)?(fc_norm|head)/")
_UMT_NORMS = re.compile(r"(norm|pool_norm|decoders_\d+)/")
_AROUND_EVL = re.compile(r"(decoder|norm|head)/")
_VIDEOMAE_FIELDS = (
    *("width", "depth", "num_heads", "mlp_ratio", "patch", "tubelet", "position_scale"),
    *("gelu", "epsilon", "pixels"),
)
_VIDEOMAE_NORMS = re.compile(r"(encoder/final_norm|fc_norm|head)/")
_VIDEOMAE_DECODER = re.compile(r"encoder/final_norm/|encoder_to_decoder/|decoder/|mask_token$")


def _as_fluxvit(given: Mapping[str, Any], model: nn.Module) -> dict[str, Any]:
    """Parameters of an InternVideo2 under FluxViT's names; one projector and head a budget."""
    budgets, renamed = len(model.budgets), {}
    for path, value in given.items():
        top, _, rest = path.partition("/")
        if top in ("pooler", "head"):
            renamed.update({f"{top}s_{i}/{rest}": value for i in range(budgets)})
        else:
            renamed[path.replace("patch_embed/", "patch_embed/proj/")] = value
    if "spatial_table" in renamed:  # separate tables are added
        temporal = renamed.pop("temporal_table")[:, None, None]
        renamed[POSITION_TABLE] = renamed.pop("spatial_table")[None] + temporal
    return renamed


def _as_tower(given: Mapping[str, Any], model: nn.Module) -> dict[str, Any]:
    """A CLIP tower's parameters; without a bias of the patch embedding it starts at 0."""
    given, bias = dict(given), "tower/patch_embed/bias"
    if model.patch_bias and bias not in given:
        given[bias] = np.zeros(model.width, np.float32)
    return given


def _as_umt(given: Mapping[str, Any], model: nn.Module) -> dict[str, Any]:
    """A video encoder's parameters under the names of the model around it."""
    return {f"vision/{path}": value for path, value in given.items()}


def _without_head(given: Mapping[str, Any]) -> dict[str, Any]:
    """A head that read other features is none for this model."""
    return {path: value for path, value in given.items() if not HEAD.match(path)}


def _tower_without_head(given: Mapping[str, Any], model: nn.Module) -> dict[str, Any]:
    return _as_tower(_without_head(given), model)


_ADAPTERS = re.compile(r"(.*/)?adaconv_\d+/")


def _for_branches(given: Mapping[str, Any], model: nn.Module) -> dict[str, Any]:
    """A plain network's norms under the names of every branch of the model."""
    parts = {path: path.split("/") for path in given}
    matches = (BRANCHED.fullmatch(part) for names in parts.values() for part in names)
    if any(match and match["branch"] != "0" for match in matches):
        return dict(given)  # it has branches of its own
    return {
        "/".join(BRANCHED.sub(rf"\g<name>_{i}", part) for part in parts[path]): value
        for path, value in given.items()
        for i in range(len(model.frames))
    }


register_start(
    FluxViT,
    Rule(FluxViT, _FLUX_FIELDS, _PER_BUDGET, _AROUND_FLUX_CLIP),
    Rule(InternVideo2, _FLUX_FIELDS, _NOT_IN_INTERNVIDEO2, _PROBE, _as_fluxvit),
)
register_start(
    FluxStudent,
    Rule(FluxViT, _FLUX_FIELDS, _PER_BUDGET, _AROUND_FLUX_CLIP),
    Rule(InternVideo2, _FLUX_FIELDS, _NOT_IN_INTERNVIDEO2, _NOT_IN_FLUX_STUDENTS, _as_fluxvit),
)
register_start(
    FluxClip,
    Rule(
        FluxClip,
        (*_FLUX_FIELDS, "text_depth", "text_heads", "text_gelu"),
        _PER_BUDGET,
        _PER_BUDGET,
    ),
    Rule(FluxViT, _FLUX_FIELDS, _AROUND_FLUX_CLIP, _PER_BUDGET),
    Rule(InternVideo2, _FLUX_FIELDS, _NOT_IN_FLUX_CLIP, _NOT_IN_FLUX_STUDENTS, _as_fluxvit),
)
for _kind in (InternVideo2, InternVideo2Student):
    register_start(
        _kind, Rule(InternVideo2, _FLUX_FIELDS, _AROUND_INTERNVIDEO2, _AROUND_INTERNVIDEO2)
    )
register_start(
    Evl,
    Rule(
        Evl,
        (*_TOWER_FIELDS, "tower_gelu", "decoder_layers", "decoder_heads"),
        _NOTHING,
        _NOTHING,
        _as_tower,
    ),
    Rule(
        ClipImage,
        (*_TOWER_FIELDS, ("tower_gelu", "gelu")),
        _AROUND_EVL,
        _AROUND_CLIP,
        _tower_without_head,
    ),
)
register_start(
    ClipImage,
    Rule(ClipImage, (*_TOWER_FIELDS, "gelu"), _AROUND_CLIP, _AROUND_CLIP, _as_tower),
    Rule(
        Evl,
        (*_TOWER_FIELDS, ("gelu", "tower_gelu")),
        _AROUND_CLIP,
        _AROUND_EVL,
        _tower_without_head,
    ),
)
for _kind, _fields in (
    (Tsm, ("bottleneck",)),
    (Tea, ()),
    (SlowFast, ("alpha",)),
    (UniFormer, ("head_dim", "channel_order")),
):
    register_start(_kind, Rule(_kind, _fields, _ADAPTERS, _NOTHING, _for_branches))
register_start(
    VideoMae,
    Rule(VideoMae, _VIDEOMAE_FIELDS, _VIDEOMAE_NORMS, _VIDEOMAE_NORMS),
    Rule(VideoMaePretraining, _VIDEOMAE_FIELDS, _VIDEOMAE_NORMS, _VIDEOMAE_DECODER),
)
register_start(
    VideoMaePretraining,
    Rule(
        VideoMaePretraining,
        (*_VIDEOMAE_FIELDS, "decoder_width", "decoder_depth", "decoder_heads"),
        _NOTHING,
        _NOTHING,
    ),
)
register_start(
    Umt,
    Rule(Umt, _UMT_FIELDS, _AROUND_UMT, _AROUND_UMT),
    Rule(UmtVision, _UMT_VISION_FIELDS, _NOT_IN_UMT_VISION, _AROUND_UMT, _as_umt),
    Rule(UmtClassifier, _UMT_VISION_FIELDS, _NOT_IN_UMT_CLASSIFIER, _OF_UMT_CLASSIFIER, _as_umt),
)
register_start(
    UmtClassifier,
    Rule(UmtClassifier, _UMT_VISION_FIELDS, _OF_UMT_CLASSIFIER, _OF_UMT_CLASSIFIER),
    Rule(UmtVision, _UMT_VISION_FIELDS, _OF_UMT_CLASSIFIER, _UMT_NORMS),
)
register_start(
    UmtVision, Rule(UmtVision, _UMT_VISION_FIELDS, _AROUND_UMT_VISION, _AROUND_UMT_VISION)
)
register_start(
    Avion,
    Rule(Avion, (*_TOWER_FIELDS, "gelu", "epsilon", "causal"), _AROUND_AVION, _AROUND_AVION),
)
