"""Official weights -> inference checkpoint.

python -m fluxjax.convert --family fluxvit --source k400_s14.pth --target models/s14 --verify
"""

import argparse
import sys
from collections.abc import Sequence

from fluxjax.convert import command
from fluxjax.convert.load import FAMILIES
from fluxjax.convert.untold import GELUS
from fluxjax.logs import set_up_logging
from fluxjax.options import OptionParser

_OVERRIDES = (
    *("num_heads", "num_frames", "image_size", "pool_num_heads", "decoder_heads", "num_classes"),
    *("gelu", "budgets", "clip", "text_heads", "context_length"),
)


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = OptionParser(prog="python -m fluxjax.convert", description=__doc__.splitlines()[0])
    add = options.add_argument
    add("--family", required=True, help=f"of the weights: {', '.join(FAMILIES)}")
    add("--source", required=True, help="weight file (.pth, .pt, .bin, .safetensors, .npz); of "
        "weights in several files the index, the folder or one of them")  # fmt: skip
    add("--target", required=True, metavar="DIR", help="folder to write; fluxjax.load reads it")
    add("--clip", help="of an evl without backbone: the weights of its CLIP")
    add("--overwrite", action="store_true", help="replace the checkpoint that --target holds")
    add("--verify", action="store_true", help="print every tensor's statistics and a forward pass")
    add("--reference", metavar="NPZ", help="with --verify: `video` [B, T, H, W, 3] float32, "
        "normalised, and the official `logits` [B, K] (all tokens, head 0); beyond 1e-3 relative "
        "the exit code is 1")  # fmt: skip
    add("--num-heads", type=int, help="attention heads, where the sizes do not tell")
    add("--text-heads", type=int, help="heads of an avion's text tower, likewise")
    add("--context-length", type=int, help="token ids of an avion's texts, if not as stored")
    add("--num-frames", type=int, help="frames of the checkpoint's position table")
    add("--image-size", type=int, help="pixels a side of the checkpoint's position table")
    add("--pool-num-heads", type=int, help="heads of the pooling projectors")
    add("--decoder-heads", type=int, help="heads of an evl's decoder")
    add("--num-classes", type=int, help="cut the heads: 400 of 710 takes the first 400 rows")
    add("--budgets", type=_numbers, help="tokens that heads 0, 1, .. of a fluxvit were trained for")
    add("--gelu", "--tower-gelu", choices=GELUS, help="of the blocks (of an evl: of its image "
        "tower); default: as files beside CLIP's weights say, else quick (clip, evl), exact "
        "(avion) or tanh",
    )  # fmt: skip
    return options


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def run(options: argparse.Namespace) -> int:
    """Converts and verifies as the options say; the exit code.

    Raises:
      ValueError, OSError: naming what is wrong.
    """
    if options.reference and not options.verify:
        raise ValueError("--reference needs --verify")
    given = {name: getattr(options, name) for name in _OVERRIDES}
    overrides = {name: value for name, value in given.items() if value is not None}
    if options.family == "evl" and "gelu" in overrides:
        overrides["tower_gelu"] = overrides.pop("gelu")
    # Read first: a wrong reference should not cost a conversion.
    reference = command.read_reference(options.reference) if options.reference else None
    model, variables = command.convert(
        options.family, options.source, options.target, overwrite=options.overwrite, **overrides
    )
    print(f"{command.described(model)} is in {options.target}")
    if not options.verify:
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


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: exit code 0, or 1 where parity is missed or after one line on what is wrong."""
    options = parser().parse_args(arguments)
    set_up_logging()
    try:
        return run(options)
    except (ValueError, OSError) as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
