"""Sizes of the models by name: those of the official constructors, and tiny ones."""

from typing import Any

import flax.linen as nn

from fluxjax.models.avion import Avion
from fluxjax.models.bert import Bert
from fluxjax.models.clip_image import ClipImage
from fluxjax.models.evl import Evl
from fluxjax.models.flux_clip import FluxClip
from fluxjax.models.fluxvit import FluxViT
from fluxjax.models.frame_flexible.slowfast import SlowFast
from fluxjax.models.frame_flexible.tea import Tea
from fluxjax.models.frame_flexible.tsm import Tsm
from fluxjax.models.frame_flexible.uniformer import UniFormer
from fluxjax.models.internvideo2 import InternVideo2
from fluxjax.models.students import FluxStudent, InternVideo2Student
from fluxjax.models.umt_sizes import SIZES as UMT_SIZES
from fluxjax.models.videomae import VideoMae
from fluxjax.models.videomae_pretraining import VideoMaePretraining

_CLIP_L14 = {
    "width": 1024, "depth": 24, "num_heads": 16, "patch": 14, "grid": (16, 16), "embedding": 768,
}  # fmt: skip

_EVL_L14 = {
    "width": 1024, "depth": 24, "num_heads": 16, "patch": 14, "grid": (16, 16),
    "qkv_width": 1024, "decoder_heads": 16,
}  # fmt: skip

# Encoder and decoder of each size.
_VIDEOMAE = {
    "ti8": (
        {"width": 128, "depth": 4, "num_heads": 4, "patch": 8, "grid": (6, 6), "num_frames": 8},
        {"decoder_width": 64, "decoder_depth": 2, "decoder_heads": 2},
    ),
    "s16": (
        {"width": 384, "depth": 12, "num_heads": 6},
        {"decoder_width": 192, "decoder_depth": 4, "decoder_heads": 3},
    ),
    "b16": (
        {"width": 768, "depth": 12, "num_heads": 12},
        {"decoder_width": 384, "decoder_depth": 4, "decoder_heads": 6},
    ),
    "l16": (
        {"width": 1024, "depth": 24, "num_heads": 16},
        {"decoder_width": 512, "decoder_depth": 12, "decoder_heads": 8},
    ),
    "h16": (
        {"width": 1280, "depth": 32, "num_heads": 16},
        {"decoder_width": 640, "decoder_depth": 12, "decoder_heads": 8},
    ),
}

_FLUX_TI = {
    "width": 128, "depth": 4, "num_heads": 4, "grid": (16, 8, 8), "pooled": 128, "pool_heads": 4,
}  # fmt: skip
_CLIP_TEXT_TI = {"embedding": 64, "text_width": 64, "text_depth": 4, "text_heads": 4}

_AVION_L14 = {
    "width": 1024, "depth": 24, "num_heads": 16, "patch": 14, "grid": (16, 16),
    "text_width": 768, "text_heads": 12,
}  # fmt: skip


def _frame_flexible(name: str, model: type[nn.Module], frames: int, **fields: Any):
    """The plain network of one frame number, and as <name>_ffn the one of the class's several."""
    return {name: (model, {"frames": (frames,), **fields}), f"{name}_ffn": (model, fields)}


# Sizes of the official constructors; "ti" is ours, for tests and quick demonstrations.
SIZES: dict[str, tuple[type[nn.Module], dict[str, Any]]] = {
    "avion_ti8": (
        Avion,
        {
            "width": 64,
            "depth": 4,
            "num_heads": 4,
            "patch": 8,
            "grid": (6, 6),
            "embedding": 64,
            "text_width": 64,
            "text_depth": 4,
            "text_heads": 4,
        },
    ),
    "avion_b16": (Avion, {}),
    "avion_l14": (Avion, _AVION_L14),
    "avion_l14_336": (Avion, _AVION_L14 | {"grid": (24, 24)}),
    "bert_base": (Bert, {}),
    "bert_large": (Bert, {"width": 1024, "depth": 24, "num_heads": 16, "hidden": 4096}),
    "clip_ti8": (
        ClipImage,
        {"width": 64, "depth": 4, "num_heads": 4, "patch": 8, "grid": (6, 6), "embedding": 64},
    ),
    "clip_b32": (ClipImage, {"patch": 32, "grid": (7, 7)}),
    "clip_b16": (ClipImage, {}),
    "clip_l14": (ClipImage, _CLIP_L14),
    "clip_l14_336": (ClipImage, _CLIP_L14 | {"grid": (24, 24)}),
    "evl_ti8": (
        Evl,
        {
            "width": 64,
            "depth": 4,
            "num_heads": 4,
            "patch": 8,
            "grid": (6, 6),
            "decoder_layers": 2,
            "qkv_width": 64,
            "decoder_heads": 4,
        },
    ),
    "evl_b16": (Evl, {}),
    "evl_l14": (Evl, _EVL_L14),
    "evl_l14_336": (Evl, _EVL_L14 | {"grid": (24, 24)}),
    "flux_clip_ti14": (FluxClip, _FLUX_TI | _CLIP_TEXT_TI),
    "flux_clip_s14": (FluxClip, {"width": 384, "num_heads": 6, "grid": (24, 18, 18)}),
    "flux_clip_b14": (FluxClip, {"width": 768, "num_heads": 12, "grid": (32, 20, 20)}),
    "fluxvit_ti14": (FluxViT, _FLUX_TI),
    "fluxvit_s14": (FluxViT, {"width": 384, "depth": 12, "num_heads": 6, "grid": (24, 18, 18)}),
    "fluxvit_b14": (FluxViT, {"width": 768, "depth": 12, "num_heads": 12, "grid": (32, 20, 20)}),
    "fluxvit_student_ti14": (
        FluxStudent,
        {
            "width": 128,
            "depth": 4,
            "num_heads": 4,
            "grid": (16, 8, 8),
            "pooled": 128,
            "pool_heads": 4,
            "taught_layers": 2,
            "teacher_width": 128,
            "teacher_final": 128,
        },
    ),
    "fluxvit_student_s14": (FluxStudent, {"width": 384, "num_heads": 6, "grid": (24, 18, 18)}),
    "fluxvit_student_b14": (FluxStudent, {"width": 768, "num_heads": 12, "grid": (32, 20, 20)}),
    "internvideo2_ti14": (
        InternVideo2,
        {
            "width": 128,
            "depth": 4,
            "num_heads": 4,
            "grid": (8, 4, 4),
            "pooled": 128,
            "pool_heads": 4,
        },
    ),
    "internvideo2_student_s14": (InternVideo2Student, {"width": 384, "num_heads": 6}),
    "internvideo2_student_b14": (InternVideo2Student, {"width": 768, "num_heads": 12}),
    "internvideo2_student_l14": (
        InternVideo2Student,
        {"width": 1024, "depth": 24, "num_heads": 16},
    ),
    **_frame_flexible("tsm_ti", Tsm, 16, layers=(1, 1, 1, 1), widths=(8, 16, 24, 32), stem=16),
    **_frame_flexible("tsm_r18", Tsm, 16, layers=(2, 2, 2, 2), bottleneck=False),
    **_frame_flexible("tsm_r50", Tsm, 16),
    **_frame_flexible("tea_ti", Tea, 16, layers=(1, 1, 1, 1), widths=(10, 15, 20, 25), stem=16),
    **_frame_flexible("tea_r50", Tea, 16),
    "internvideo2_s14": (InternVideo2, {"width": 384, "depth": 12, "num_heads": 6}),
    "internvideo2_b14": (InternVideo2, {"width": 768, "depth": 12, "num_heads": 12}),
    "internvideo2_l14": (InternVideo2, {"width": 1024, "depth": 24, "num_heads": 16}),
    "internvideo2_1b14": (
        InternVideo2,
        {"width": 1408, "depth": 40, "num_heads": 16, "mlp_ratio": 48 / 11},
    ),
    **_frame_flexible("slowfast_ti", SlowFast, 64, layers=(1, 1, 1, 1), width=16),
    **_frame_flexible("slowfast_r50", SlowFast, 64),
    **_frame_flexible(
        "uniformer_ti",
        UniFormer,
        16,
        layers=(1, 1, 1, 1),
        widths=(16, 24, 32, 48),
        head_dim=16,
    ),  # fmt: skip
    **_frame_flexible("uniformer_s", UniFormer, 16),
    **_frame_flexible("uniformer_b", UniFormer, 16, layers=(5, 8, 20, 7)),
    **UMT_SIZES,
    **{f"videomae_{size}": (VideoMae, encoder) for size, (encoder, _) in _VIDEOMAE.items()},
    **{
        f"videomae_{size}_pretrain": (VideoMaePretraining, encoder | decoder)
        for size, (encoder, decoder) in _VIDEOMAE.items()
    },
}
