"""Official weights -> inference checkpoint.

python -m fluxjax.convert --family fluxvit --source k400_s14.pth --target models/s14 --verify
"""

import sys

from absl import app, flags, logging

from fluxjax.convert import command

FLAGS = flags.FLAGS

flags.DEFINE_string("family", None, "Of the weights: clip, evl, fluxvit or internvideo2.")
flags.DEFINE_string("source", None, "Weight file: .pth, .pt, .bin, .safetensors or .npz.")
flags.DEFINE_string("target", None, "Folder to write; fluxjax.load reads it.")
flags.DEFINE_bool("overwrite", False, "Replace the checkpoint that --target holds.")
flags.DEFINE_bool("verify", False, "Print every tensor's statistics and a forward pass.")
flags.DEFINE_string(
    "reference",
    None,
    "With --verify: .npz with `video` [B, T, H, W, 3] float32, normalised, and the official "
    "`logits` [B, K] (all tokens, head 0). Beyond 1e-3 relative, the exit code is 1.",
)
flags.DEFINE_integer("num_heads", None, "Attention heads, where the width does not tell.")
flags.DEFINE_integer("num_frames", None, "Frames of the checkpoint's position table.")
flags.DEFINE_integer("image_size", None, "Pixels a side of the checkpoint's position table.")
flags.DEFINE_integer("pool_num_heads", None, "Heads of the pooling projectors.")
flags.DEFINE_integer("num_classes", None, "Cut the heads: 400 of 710 takes the first 400 rows.")
flags.DEFINE_list("budgets", None, "Tokens that heads 0, 1, .. of a FluxViT were trained for.")
flags.DEFINE_enum("gelu", None, ("tanh", "exact"), "Of the blocks; default tanh, as released.")

_OVERRIDES = ("num_heads", "num_frames", "image_size", "pool_num_heads", "num_classes", "gelu")


def run() -> int:
    """Converts and verifies as the flags say; the exit code.

    Raises:
      ValueError, OSError: naming what is wrong.
    """
    for name in ("family", "source", "target"):
        if not FLAGS[name].value:
            raise ValueError(f"--{name} is needed; see --help")
    if FLAGS.reference and not FLAGS.verify:
        raise ValueError("--reference needs --verify")
    given = {name: FLAGS[name].value for name in _OVERRIDES}
    overrides = {name: value for name, value in given.items() if value is not None}
    if FLAGS.budgets:
        overrides["budgets"] = tuple(int(budget) for budget in FLAGS.budgets)
    # Read first: a wrong reference should not cost a conversion.
    reference = command.read_reference(FLAGS.reference) if FLAGS.reference else None
    model, variables = command.convert(
        FLAGS.family, FLAGS.source, FLAGS.target, overwrite=FLAGS.overwrite, **overrides
    )
    print(f"{type(model).__name__} of {model.num_classes} classes is in {FLAGS.target}")
    if not FLAGS.verify:
        return 0
    print(*command.tensor_table(variables), sep="\n")
    if reference is None:
        print(command.seeded_summary(model, variables))
        return 0
    absolute, relative = command.parity(model, variables, *reference)
    good = relative <= command.TOLERANCE  # false for NaN too
    verdict = "equal" if good else f"NOT equal, the tolerance is {command.TOLERANCE}"
    print(f"parity: max difference {absolute:.3e}, relative {relative:.3e}: {verdict}")
    return 0 if good else 1


def main(argv: list[str]) -> None:
    """absl entry: exits with 0, 1 where parity is missed, or one line on what is wrong."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}; options start with --")
    try:
        code = run()
    except (ValueError, OSError) as error:
        sys.exit("error: " + " ".join(str(error).split()))
    sys.exit(code)


if __name__ == "__main__":
    logging.set_verbosity(logging.WARNING)  # Orbax reports every file that it opens
    app.run(main)
