"""Cuts a golden file to what the tests read, so that the repository stays small.

    python -m tests.golden.cut SOURCE.npz TARGET.npz --every 8 --over 4096 --drop "param/blocks.1.*"

Outputs of more than `--over` entries keep every `--every`-th of them, in row-major order, and
`Fixture.check` compares those. `--keep` names arrays that stay whole, `--drop` those no test reads.
Names are as in the file, with wildcards.
"""

import argparse
import fnmatch
import json
import pathlib

import numpy as np


def cut(arrays, every=1, over=4096, keep=(), drop=()):
    """The cut arrays of a file; `meta` says of each thinned output its step and its whole shape.

    Raises:
      ValueError: a pattern names no array, or the file was cut before.
    """
    for pattern in (*keep, *drop):
        if not fnmatch.filter(arrays, pattern):
            raise ValueError(f"no array is named {pattern!r}: {sorted(arrays)}")
    meta = json.loads(str(arrays["meta"]))
    if "thinned" in meta:
        raise ValueError("this file is cut already: cut the whole one")
    kept, thinned = {}, {}
    for name, array in arrays.items():
        named = lambda patterns, name=name: any(fnmatch.fnmatch(name, p) for p in patterns)  # noqa: E731
        if name == "meta" or named(drop):
            continue
        if every > 1 and name.startswith("output/") and array.size > over and not named(keep):
            thinned[name.removeprefix("output/")] = {"every": every, "shape": list(array.shape)}
            array = array.reshape(-1)[::every]
        kept[name] = array
    return kept | {"meta": np.array(json.dumps(meta | {"thinned": thinned}))}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("target", type=pathlib.Path)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--over", type=int, default=4096)
    parser.add_argument("--keep", nargs="*", default=())
    parser.add_argument("--drop", nargs="*", default=())
    options = parser.parse_args()
    with np.load(options.source, allow_pickle=False) as data:
        arrays = {name: data[name] for name in data.files}
    np.savez_compressed(
        options.target, **cut(arrays, options.every, options.over, options.keep, options.drop)
    )
    was, now = (path.stat().st_size for path in (options.source, options.target))
    print(f"{options.target.name}: {was / 1024:.0f} to {now / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
