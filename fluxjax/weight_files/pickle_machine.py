"""The parts of the inert pickle machine: its stack, its memo, and what names in a file become."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable

from fluxjax.weight_files.errors import WeightsError, shown

_MAX_NAME = 1024  # bytes in a module or attribute name
_MAX_KEY_INT = 2**63  # larger integers can be chosen to share one hash and stall a dict
_MAX_KEY_TUPLE = 8


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Global:
    """What stands for one permitted `module.name`.

    `call` is what REDUCE does (a tuple of arguments in, plain data out); `record` permits NEWOBJ;
    `value` is what the name means to the table's functions, such as a storage's dtype.
    """

    name: str
    call: Callable[[tuple], object] | None = None
    record: bool = False
    value: object = None


class Record:
    """An object of a permitted class, as bare data: the class's name and its attributes."""

    __slots__ = ("fields", "kind")

    def __init__(self, kind: str):
        self.kind = kind
        self.fields: dict[str, object] = {}

    def set_state(self, state: object) -> None:
        """Keeps the attribute dictionary of BUILD in `fields`; sets no attribute of this object."""
        if type(state) is not dict or not all(type(name) is str for name in state):
            raise WeightsError(f"object of {self.kind} has a state that is not names to values")
        self.fields = state


class Machine:
    """The state of one pickle being read, with operations that check before they act."""

    def __init__(self, data, start, find_global, persistent_load):
        self.data, self.position, self.opcode = data, start, 0
        self.find_global, self.persistent_load = find_global, persistent_load
        self.stack: list[object] = []
        self.below: list[list[object]] = []  # the stacks under each open mark
        self.memo: dict[int, object] = {}

    def next_opcode(self) -> int:
        """Steps to the next opcode, which stays in `opcode`."""
        self.opcode = self.take(1)[0]
        return self.opcode

    def take(self, count: int) -> bytes:
        """The next `count` bytes of the pickle."""
        end = self.position + count
        if end > len(self.data):  # before any memory is reserved for a declared length
            raise WeightsError(f"truncated pickle: {count} bytes wanted at byte {self.position}")
        piece = bytes(self.data[self.position : end])
        self.position = end
        return piece

    def number(self, form: str):
        """The next number, in a `struct` format."""
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> str:
        """The next name, up to its line feed."""
        piece = bytes(self.data[self.position : self.position + _MAX_NAME])
        length = piece.find(b"\n")
        if length < 0:
            raise WeightsError("damaged pickle: a name without an end")
        self.position += length + 1
        return decoded(piece[:length])

    def pop(self, kind: type = object):
        """Takes the value on top, which must be a `kind`."""
        if not self.stack:
            raise WeightsError("damaged pickle: a value is missing")
        value = self.stack.pop()
        if not isinstance(value, kind):
            raise WeightsError(f"damaged pickle: {kind.__name__} expected, found {shown(value)}")
        return value

    def pop_mark(self) -> list[object]:
        """Takes every value above the last mark."""
        if not self.below:
            raise WeightsError("damaged pickle: a mark is missing")
        items, self.stack = self.stack, self.below.pop()
        return items

    def top(self, kind: type):
        """The value on top, which must be exactly a `kind` and stays."""
        if not self.stack or type(self.stack[-1]) is not kind:
            raise WeightsError(f"damaged pickle: no {kind.__name__} to add to")
        return self.stack[-1]

    def push_global(self, module: str, name: str) -> None:
        """Pushes what a name stands for, or refuses it."""
        found = self.find_global(module, name)
        if found is None:
            raise WeightsError(
                f"refused global {shown(f'{module}.{name}', 200)}: it is not one of the few that "
                "weights need; nothing from the file was run. Where the file is trusted, save only "
                "its state dict again: torch.save(model.state_dict(), path)"
            )
        self.stack.append(found)

    def set_items(self, items: list[object]) -> None:
        """Adds alternating keys and values to the dictionary on top."""
        target = self.top(dict)
        if len(items) % 2:
            raise WeightsError("damaged pickle: a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[checked_key(key)] = value


def decoded(raw: bytes) -> str:
    """The text of a string opcode; surrogates pass, as they do in `pickle`."""
    try:
        return raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise WeightsError(f"damaged pickle: text that is not UTF-8 ({error.reason})") from None


def checked_key(key: object) -> object:
    """Returns `key` if it is cheap and safe to hash: text, a 63-bit integer, None, or a few."""
    parts = key if type(key) is tuple and len(key) <= _MAX_KEY_TUPLE else (key,)
    for part in parts:
        plain = part is None or type(part) in (str, bool)
        if not plain and not (type(part) is int and abs(part) < _MAX_KEY_INT):
            raise WeightsError(f"refused dictionary key {shown(part)}: names or integers expected")
    return key
