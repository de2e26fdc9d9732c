"""Sizes at which the commands of the documentation are affordable."""

# Options that make a command affordable; appended, so that they win.
_DATA = [
    "--config.data.train=train.txt", "--config.data.test=train.txt", "--config.data.root=videos",
]  # fmt: skip
_SHORT = [
    "--config.total_steps=2", "--config.batch_size=8", "--config.optim.warmup_steps=0",
    "--config.eval.batch_size=8", "--config.checkpoint.every_steps=2", *_DATA,
]  # fmt: skip
_FLUXVIT = [
    "--config.model.width=16", "--config.model.depth=1", "--config.model.num_heads=2",
    "--config.model.pooled=16", "--config.model.pool_heads=2", "--config.budgets=(8,4)",
    "--config.grids.frames=(2,4)", "--config.grids.resolutions=(28,)",
    "--config.grids.min_tokens=2", "--config.grids.max_tokens=16",
    "--config.eval.grids=('4x28',)", "--config.eval.budgets=(8,)", *_SHORT,
]  # fmt: skip
_TOWER = [
    *_SHORT, "--config.model.width=16", "--config.model.depth=1", "--config.model.num_heads=2",
]  # fmt: skip
_EVL = [
    *_TOWER, "--config.model.decoder_layers=1", "--config.model.qkv_width=16",
    "--config.eval.grids=('8x48',)", "--config.eval.budgets=(72,)",
    *(option.replace("--config.", "--config.pretrain.") for option in _TOWER),
]  # fmt: skip
_FFN = [
    "--config.grids.frames=(2,4)",
    "--config.grids.resolutions=(32,)",
    "--config.eval.grids=('2x32','3x32')",
    *_SHORT,
]
_VIDEOMAE = [*_TOWER, "--config.eval.grids=('8x32',)"]
_VIDEOMAE_BOTH = [
    *_VIDEOMAE, "--config.pretrain.eval.evaluators=('held_out','reconstructions')",
    *(option.replace("--config.", "--config.pretrain.") for option in _TOWER),
]  # fmt: skip
_STUDENT = [
    *(o for o in _FLUXVIT if "budgets" not in o), "--config.budgets=(8,6,4)",
    "--config.distill.tokens=8", "--config.grids.min_tokens=8", "--config.model.depth=2",
]  # fmt: skip
_TEACHER = [
    *(o for o in _FLUXVIT if "budgets" not in o and "frames" not in o), "--config.model.depth=3",
    "--config.grids.frames=(4,)", "--config.eval.budgets=(8,)", "--config.single_budget=8",
]  # fmt: skip
_FLUX_UMT = [
    *_FLUXVIT,
    "--config.model.depth=2",
    *(option.replace("--config.", "--config.pretrain.") for option in _STUDENT),
    *(option.replace("--config.", "--config.pretrain.pretrain.") for option in _TEACHER),
]
_FLUX_CLIP = [
    *(o for o in _FLUXVIT if "data" not in o), "--config.model.text_width=16",
    "--config.model.text_depth=1", "--config.model.text_heads=2",
    "--config.data.train=captions.jsonl", "--config.data.test=captions.jsonl",
    "--config.data.root=videos",
    *(option.replace("--config.", "--config.pretrain.") for option in _FLUXVIT),
]  # fmt: skip
_AVION = [
    *_TOWER, "--config.model.text_width=16", "--config.model.text_depth=1",
    "--config.model.text_heads=2", "--config.eval.evaluators=('retrieval',)",
    "--config.data.train=captions.jsonl", "--config.data.test=captions.jsonl",
    "--config.data.class_names=()",
]  # fmt: skip
_UMT = [
    *_TOWER, "--config.model.text_width=16", "--config.model.text_depth=2",
    "--config.model.text_heads=2", "--config.model.text_hidden=24", "--config.model.fusion_layer=1",
]  # fmt: skip
_UMT_RETRIEVAL = [
    *_UMT, "--config.data.train=captions.jsonl", "--config.data.test=captions.jsonl",
    *(o.replace("--config.", "--config.pretrain.") for o in _TOWER),
    *(o.replace("--config.", "--config.pretrain.pretrain.") for o in _TOWER),
]  # fmt: skip
_UMT_QA = [*_UMT, "--config.data.train=questions.jsonl", "--config.data.test=questions.jsonl"]
CONFIGS = {
    "configs/fluxvit_ti.py": _FLUXVIT,
    "configs/fluxvit_s.py": _FLUXVIT,
    "configs/finetune.py:cpu": _FLUXVIT,
    "configs/evl_demo.py": _EVL,
    "configs/evl_demo.py:frame": _TOWER,
    "configs/avion_demo.py": [
        *_AVION,
        *(o.replace("--config.", f"--config.{n * 'pretrain.'}") for n in (1, 2, 3) for o in _TOWER),
    ],
    "configs/umt_demo.py": _UMT_RETRIEVAL,
    "configs/umt_demo.py:qa": _UMT_QA,
    "configs/ffn_demo.py": _FFN,
    "configs/ffn_demo.py:st8": [word.replace("(2,4)", "(4,)") for word in _FFN],
    "configs/videomae_demo.py": _VIDEOMAE_BOTH,
    "configs/videomae_demo.py:scratch": _VIDEOMAE,
    "configs/flux_umt_demo.py": _FLUX_UMT,
    "configs/flux_umt_demo.py:scratch": _FLUXVIT,
    "configs/flux_umt_demo.py:teacher": _TEACHER,
    "configs/flux_umt_demo.py:student": _STUDENT,
    "configs/flux_clip_demo.py": _FLUX_CLIP,
}
SMALL = {
    "fluxjax.budgets": [
        "--grids=4x28", "--budgets=8", "--methods=group_dynamic,none", "--repeats=1",
        "--batch-size=4", "--pictures=1",
    ],
    "fluxjax.embed": ["--data=captions.jsonl", "--root=videos"],
    "fluxjax.export": ["--platforms=cpu"],
    "benchmarks.bad_videos": ["--clips=64", "--videos=4", "--bad=0.5"],
    "benchmarks.data": ["--source=all.txt", "--batch=4", "--steps=2", "--repeats=1"],
    "benchmarks.hosts": ["--count=1", "--grid=2x28", "--batch=1", "--seconds=0.1", "--repeats=1"],
    "benchmarks.evl_decoder": ["--model=evl_ti8", "--grid=2x48", "--repeats=1"],
    "benchmarks.grids": ["--frames=2", "--resolutions=28", "--min-tokens=2", "--max-tokens=8",
                         "--budgets=8,4,2", "--batch=1", "--steps=1"],
    "benchmarks.videomae_step": ["--model=videomae_ti8_pretrain", "--grid=2x16", "--ratio=0.75",
                                 "--repeats=1"],
    "benchmarks.video_text": ["--model=avion_ti8", "--grid=2x16", "--batch=2", "--repeats=1",
                              "--rows=plain;remat per block"],
    "benchmarks.readers": ["--videos", "clip.mp4", "--grid=2x28", "--clips=2", "--repeats=1"],
}  # fmt: skip
