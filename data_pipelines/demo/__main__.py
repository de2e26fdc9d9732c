"""Makes the demo corpus, and draws a contact sheet of it.

python -m data_pipelines.demo --variant easy --preview easy.png
"""

from __future__ import annotations

from collections.abc import Sequence

from absl import app, flags

from data_pipelines import demo
from data_pipelines.demo import preview
from data_pipelines.demo.motion import VARIANTS

_VARIANT = flags.DEFINE_enum("variant", "easy", list(VARIANTS), "Which corpus to make.")
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Where data sets are kept; $FLUXJAX_DATA_DIR or ~/.cache/fluxjax by default."
)
_PREVIEW = flags.DEFINE_string(
    "preview", None, "Draw 8 clips of the test split into this picture file (.png)."
)


def main(argv: Sequence[str]) -> None:
    """Prepares the corpus, says where it is, and draws the sheet if asked to."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {list(argv[1:])}; options begin with --")
    builder = demo.load(_VARIANT.value, _DATA_DIR.value)
    counts = ", ".join(f"{s.num_examples} {name}" for name, s in builder.info.splits.items())
    print(f"{builder.info.full_name}: {counts} clips in {builder.data_dir}")
    if _PREVIEW.value:
        source = builder.as_data_source("test")
        names = builder.info.features["label"].names
        clips = [source[i] for i in range(8)]
        preview.contact_sheet(clips, names).save(_PREVIEW.value)
        print(f"contact sheet: {_PREVIEW.value}")


if __name__ == "__main__":
    app.run(main)
