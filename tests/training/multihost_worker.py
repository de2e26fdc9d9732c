"""`python -m fluxjax.main` that says how many videos this process decoded."""

import atexit
import sys

from absl import app, flags

from data_pipelines.clips import joint, views
from fluxjax import main

opened = []


def counting(source, **options):
    """As `open_video`, and counts."""
    opened.append(source)
    return open_video(source, **options)


if __name__ == "__main__":
    open_video, joint.open_video, views.open_video = joint.open_video, counting, counting
    atexit.register(lambda: print(f"decoded {len(opened)}", file=sys.stderr))
    flags.mark_flag_as_required("config")
    app.run(main.main, flags_parser=main.parse_flags)
