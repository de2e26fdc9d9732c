"""Writes small CLIP vision models as `save_pretrained` does, with their outputs. Runs where torch
and transformers are installed:

python tests/convert/make_clip_data.py

Made with torch 2.14.1 and transformers 5.24.0: each folder holds config.json, shards and their
index; io.npz beside has images `x` [B, H, W, 3], as normalised, and the outputs `y` [B, E].
"""

import pathlib

import numpy as np

DATA = pathlib.Path(__file__).parent / "data"
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 16,
    "image_size": 12,
    "patch_size": 4,
    "projection_dim": 6,
}
# Folder -> class, activation.
MODELS = {
    "clip_vision_quick": ("CLIPVisionModel", "quick_gelu"),
    "clip_vision_exact": ("CLIPVisionModel", "gelu"),
    "clip_projected_exact": ("CLIPVisionModelWithProjection", "gelu"),
}


def main() -> None:
    import torch
    import transformers

    for folder, (kind, activation) in MODELS.items():
        config = transformers.CLIPVisionConfig(**SIZES, hidden_act=activation)
        torch.manual_seed(0)
        model = getattr(transformers, kind)(config).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        model.save_pretrained(DATA / folder, max_shard_size="25KB")
        x = torch.randn(2, 3, 12, 12)
        with torch.no_grad():
            found = model(x)
        y = found.image_embeds if "Projection" in kind else found.pooler_output
        np.savez(DATA / folder / "io.npz", x=x.permute(0, 2, 3, 1).numpy(), y=y.numpy())


if __name__ == "__main__":
    main()
