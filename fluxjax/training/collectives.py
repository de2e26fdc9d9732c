"""What a compiled program sends between devices, read out of its text."""

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

_KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_INSTRUCTION = re.compile(
    rf"^\s*(?:ROOT )?%?\S+ = (?P<types>.+?) (?P<kind>{'|'.join(_KINDS)})(?P<start>-start)?\("
)
# TPUs' compiler sums and cuts in one computation of this name.
_SUM_AND_CUT = re.compile(r"^%?all-reduce-scatter\S* \(")
_ARRAY = re.compile(r"\b(pred|[a-z]+\d+\w*)\[([\d,]*)\]")


class Traffic(NamedTuple):
    """Of one kind of collective."""

    count: int
    bytes: int  # of the results on one device


def collectives(text: str) -> Mapping[str, Traffic]:
    """Kind of collective -> how many a program has, and the bytes of their results on one device.

    Args:
      text: of the optimised program, `compiled.as_text()`. What a loop repeats counts once.
    """
    found: dict[str, Traffic] = {}
    sums_and_cuts = False
    for line in text.splitlines():
        if not line.startswith(" "):  # a computation begins or ends
            sums_and_cuts = bool(_SUM_AND_CUT.match(line))
        if match := _INSTRUCTION.match(line):
            kind = "reduce-scatter" if sums_and_cuts else match["kind"]
            arrays = [_size(*array) for array in _ARRAY.findall(match["types"])]
            if match["start"] and match["kind"] != "all-reduce":
                arrays = arrays[len(arrays) // 2 :][:1]  # (operand, result, ..)
            count, size = found.get(kind, (0, 0))
            found[kind] = Traffic(count + 1, size + sum(arrays))
    return found


def _size(dtype: str, shape: str) -> int:
    bits = 8 if dtype == "pred" else int(re.search(r"\d+", dtype)[0])
    return math.prod(int(n) for n in shape.split(",") if n) * bits // 8
