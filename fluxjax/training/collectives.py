"""What a compiled program sends between devices, read out of its text."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

_KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_INSTRUCTION = re.compile(
    rf"^\s*(?:ROOT )?%?\S+ = (?P<types>.+?) (?P<kind>{'|'.join(_KINDS)})(?P<start>-start)?\("
    r".*?(?:\bchannel_id=(?P<channel>\d+)|$)"
)
# TPUs' compiler sums and cuts in one computation of this name.
_SUM_AND_CUT = re.compile(r"^%?all-reduce-scatter\S* \(")
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.-]+) .*\{$")
_CALL = re.compile(r"\b(calls|to_apply|body|true_computation|false_computation)=%?([\w.-]+)")
_TURNS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_CONDITION = re.compile(r"\bcondition=%?([\w.-]+)")
_LIMIT = re.compile(r"= s32\[\]\S* constant\((\d+)\)")
_ARRAY = re.compile(r"\b(pred|[a-z]+\d+\w*)\[([\d,]*)\]")
_CONTEXT = ("u32", "")  # of a collective-permute that is started: two of these follow its result


class Traffic(NamedTuple):
    """Of one kind of collective."""

    count: int
    bytes: int  # of the results on one device


class _Collective(NamedTuple):
    """One instruction; without a channel it is its own."""

    kind: str
    bytes: int  # of its results
    channel: str | None


def collectives(text: str) -> Mapping[str, Traffic]:
    """Kind of collective -> how many run in a program, and the bytes of their results on a device.

    Args:
      text: of the optimised program, `compiled.as_text()`. What a loop repeats counts as often as
        the compiler knows, else once.
    """
    parts = _computations(text)
    entry = next(name for name, lines in parts.items() if lines[0].startswith("ENTRY"))
    # TPUs' compiler spreads one over several fusions, so that it goes on beside their computation;
    # each of these repeats it, with its channel.
    once: dict[tuple[str, str | int], tuple[_Collective, int]] = {}
    for name, times in _runs(parts, entry).items():
        for place, one in enumerate(_collectives_of(parts[name])):
            key = (name, place) if one.channel is None else (one.kind, one.channel)
            _, before = once.get(key, (one, 0))
            once[key] = one, max(times, before)
    found: dict[str, Traffic] = {}
    for one, times in once.values():
        count, total = found.get(one.kind, (0, 0))
        found[one.kind] = Traffic(count + times, total + times * one.bytes)
    return found


def _computations(text: str) -> dict[str, list[str]]:
    """Name -> lines of every computation of a program, the first with its name."""
    parts: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if match := _COMPUTATION.match(line):
            lines = parts.setdefault(match[1], [])
        lines.append(line)
    return parts


def _runs(parts: Mapping[str, list[str]], entry: str) -> dict[str, int]:
    """Name -> how often each computation runs that the entry reaches."""
    runs: dict[str, int] = {}

    def visit(name: str, times: int) -> None:
        runs[name] = runs.get(name, 0) + times
        for line in parts[name]:
            for kind, called in _CALL.findall(line):
                if called in parts:
                    visit(called, times * (_turns(line, parts) if kind == "body" else 1))

    visit(entry, 1)
    return runs


def _turns(line: str, parts: Mapping[str, list[str]]) -> int:
    """How often a loop runs: what the compiler says, or the one limit of its condition; else 1."""
    if said := _TURNS.search(line):
        return int(said[1])
    condition = _CONDITION.search(line)
    text = "\n".join(parts.get(condition[1], [])) if condition else ""
    limits = _LIMIT.findall(text)
    return int(limits[0]) if len(limits) == 1 and "direction=LT" in text else 1


def _collectives_of(lines: list[str]) -> Iterator[_Collective]:
    """The collectives of one computation."""
    sums_and_cuts = bool(_SUM_AND_CUT.match(lines[0]))
    for line in lines:
        if match := _INSTRUCTION.match(line):
            kind = "reduce-scatter" if sums_and_cuts else match["kind"]
            arrays = _ARRAY.findall(match["types"])
            if match["start"] and match["kind"] != "all-reduce":  # (operands, results, context)
                arrays = [array for array in arrays if array != _CONTEXT]
                arrays = arrays[len(arrays) // 2 :]
            size = sum(_size(*array) for array in arrays)
            yield _Collective(kind, size, match["channel"])


def _size(dtype: str, shape: str) -> int:
    bits = 8 if dtype == "pred" else int(re.search(r"\d+", dtype)[0])
    return math.prod(int(n) for n in shape.split(",") if n) * bits // 8
