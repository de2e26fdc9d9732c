"""Small VideoMAE models of Hugging Face's transformers with random weights, and what they give.

    python -m tests.convert.transformers_videomae

writes them to transformers_videomae.npz beside this file, which is compared with ours where torch
is not installed; it needs the extra "torch".
"""

import pathlib

import numpy as np

FILE = pathlib.Path(__file__).with_suffix(".npz")
SIZES = {
    "patch_size": 4, "num_frames": 4, "image_size": [16, 12], "hidden_size": 18,
    "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 30,
    "decoder_hidden_size": 16, "decoder_num_hidden_layers": 2, "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 28, "num_labels": 5,
}  # fmt: skip
# Name -> class and what its config has besides the sizes.
CASES = {
    "pretraining": ("VideoMAEForPreTraining", {"use_mean_pooling": False}),
    "pretraining_without_norm": ("VideoMAEForPreTraining", {}),
    "classifier": ("VideoMAEForVideoClassification", {}),
    "classifier_of_first": ("VideoMAEForVideoClassification", {"use_mean_pooling": False}),
    "without_biases": ("VideoMAEForVideoClassification", {"qv_bias": False}),
}
STORED = ("pretraining", "classifier")


def build(case, seed=0):
    """A model of transformers with random weights, its inputs and its outputs as arrays."""
    import torch
    import transformers

    kind, options = CASES[case]
    torch.manual_seed(seed)
    config = transformers.VideoMAEConfig(**SIZES, **options)
    model = getattr(transformers, kind)(config).eval()
    for name, parameter in model.named_parameters():
        shift = float("norm" in name and name.endswith("weight"))
        parameter.data = torch.randn_like(parameter) * 0.2 + shift
    rows, columns = (side // config.patch_size for side in config.image_size)
    clip = torch.randn(2, config.num_frames, 3, *config.image_size)
    inputs = {"pixel_values": clip.half().float()}
    if kind == "VideoMAEForPreTraining":
        tokens = config.num_frames // 2 * rows * columns
        noise = torch.rand(2, tokens).argsort(dim=1)
        inputs["bool_masked_pos"] = noise < tokens * 3 // 4
    with torch.no_grad():
        output = model(**inputs)
    arrays = {"pixel_values": inputs["pixel_values"].numpy().astype(np.float16)}
    if "bool_masked_pos" in inputs:
        arrays |= {"mask": inputs["bool_masked_pos"].numpy(), "loss": output.loss.numpy()}
    return model, arrays | {"logits": output.logits.numpy()}


def main():
    arrays = {}
    for case in STORED:
        model, outputs = build(case)
        state = {f"param/{name}": value.numpy() for name, value in model.state_dict().items()}
        arrays |= {f"{case}/{name}": value for name, value in (state | outputs).items()}
    np.savez_compressed(FILE, **arrays)
    print(f"{FILE.name}: {FILE.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
