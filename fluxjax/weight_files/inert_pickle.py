"""A pickle machine that cannot run anything: it builds plain data out of a closed set of opcodes.

`pickle.Unpickler` with a guarded `find_class` refuses foreign names, yet its C core still sets
attributes on BUILD, sizes its memo table by an index that the file chooses, reserves memory by
declared lengths, and overflows the C stack when a deeply nested tuple is hashed as a key. Weight
files need some forty opcodes, so they are interpreted here. A name in the file becomes a `Global`,
looked up in the caller's table; nothing is imported, and only the table's own functions are called.

Sets become lists (their order and uniqueness mean nothing for weights). The opcodes are those of
protocols 2 to 5 that CPython's and TorchScript's picklers write for such trees.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable

from fluxjax.weight_files.errors import WeightsError, shown
from fluxjax.weight_files.file_bytes import FileBytes
from fluxjax.weight_files.pickle_machine import Global, Machine, Record, decoded


def load_pickle(
    data: memoryview | FileBytes,
    start: int,
    find_global: Callable[[str, str], Global | None],
    persistent_load: Callable[[object], object],
) -> tuple[object, int]:
    """Interprets the pickle that starts at `data[start]`; returns (value, where it ended).

    `find_global(module, name)` returns None for a name that is refused. `persistent_load` receives
    the identifiers of BINPERSID. Objects made by either may define `set_state(state)` for BUILD.

    Raises WeightsError for every name, opcode or structure outside the permitted set.
    """
    machine = Machine(data, start, find_global, persistent_load)
    while (code := machine.next_opcode()) != pickle.STOP[0]:
        handler = _HANDLERS.get(code)
        if handler is None:
            raise WeightsError(
                f"refused pickle opcode {bytes([code])!r} at byte {machine.position - 1}: "
                "weight files do not need it; nothing from the file was run"
            )
        handler(machine)
    if len(machine.stack) != 1 or machine.below:
        raise WeightsError("damaged pickle: it does not end with exactly one value")
    return machine.stack[0], machine.position


_HANDLERS: dict[int, Callable[[Machine], None]] = {}


def _opcode(*codes: bytes):
    def register(handler):
        _HANDLERS.update({code[0]: handler for code in codes})
        return handler

    return register


@_opcode(pickle.PROTO)
def _protocol(machine: Machine) -> None:
    version = machine.number("<B")
    if not 2 <= version <= 5:
        raise WeightsError(f"pickle protocol {version} is not read; save with protocol 2 to 5")


@_opcode(pickle.FRAME)
def _frame(machine: Machine) -> None:
    machine.number("<Q")  # a reading hint only


_CONSTANTS = {
    pickle.NONE: lambda: None,
    pickle.NEWTRUE: lambda: True,
    pickle.NEWFALSE: lambda: False,
    pickle.EMPTY_TUPLE: tuple,
    pickle.EMPTY_LIST: list,
    pickle.EMPTY_SET: list,
    pickle.EMPTY_DICT: dict,
}
_NUMBERS = {
    pickle.BININT: "<i",
    pickle.BININT1: "<B",
    pickle.BININT2: "<H",
    pickle.BINFLOAT: ">d",
}
_TEXTS = {pickle.SHORT_BINUNICODE: "<B", pickle.BINUNICODE: "<I", pickle.BINUNICODE8: "<Q"}
_BYTES = {pickle.SHORT_BINBYTES: "<B", pickle.BINBYTES: "<I", pickle.BINBYTES8: "<Q"}
_OLD_STRINGS = {pickle.SHORT_BINSTRING: "<B", pickle.BINSTRING: "<I"}  # str of Python 2


def _register_literals() -> None:
    for code, make in _CONSTANTS.items():
        _opcode(code)(lambda m, make=make: m.stack.append(make()))
    for code, form in _NUMBERS.items():
        _opcode(code)(lambda m, form=form: m.stack.append(m.number(form)))
    for code, form in (_TEXTS | _OLD_STRINGS).items():
        _opcode(code)(lambda m, form=form: m.stack.append(decoded(m.take(m.number(form)))))
    for code, form in _BYTES.items():
        _opcode(code)(lambda m, form=form: m.stack.append(m.take(m.number(form))))


_register_literals()


@_opcode(pickle.LONG1)
def _long(machine: Machine) -> None:
    digits = machine.take(machine.number("<B"))
    machine.stack.append(int.from_bytes(digits, "little", signed=True))


@_opcode(pickle.MARK)
def _mark(machine: Machine) -> None:
    machine.below.append(machine.stack)
    machine.stack = []


@_opcode(pickle.TUPLE)
def _tuple(machine: Machine) -> None:
    items = machine.pop_mark()
    machine.stack.append(tuple(items))


@_opcode(pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3)
def _short_tuple(machine: Machine) -> None:
    count = machine.opcode - pickle.TUPLE1[0] + 1
    items = [machine.pop() for _ in range(count)]
    machine.stack.append(tuple(reversed(items)))


@_opcode(pickle.APPEND)
def _append(machine: Machine) -> None:
    item = machine.pop()
    machine.top(list).append(item)


@_opcode(pickle.APPENDS, pickle.ADDITEMS)
def _appends(machine: Machine) -> None:
    items = machine.pop_mark()
    machine.top(list).extend(items)


@_opcode(pickle.SETITEM)
def _set_item(machine: Machine) -> None:
    value, key = machine.pop(), machine.pop()
    machine.set_items([key, value])


@_opcode(pickle.SETITEMS)
def _set_items(machine: Machine) -> None:
    items = machine.pop_mark()
    machine.set_items(items)


@_opcode(pickle.BINPUT)
def _put(machine: Machine) -> None:
    _remember(machine, machine.number("<B"))


@_opcode(pickle.LONG_BINPUT)
def _long_put(machine: Machine) -> None:
    _remember(machine, machine.number("<I"))


@_opcode(pickle.MEMOIZE)
def _memoize(machine: Machine) -> None:
    _remember(machine, len(machine.memo))


def _remember(machine: Machine, index: int) -> None:
    value = machine.pop()
    machine.memo[index] = value
    machine.stack.append(value)


@_opcode(pickle.BINGET)
def _get(machine: Machine) -> None:
    _recall(machine, machine.number("<B"))


@_opcode(pickle.LONG_BINGET)
def _long_get(machine: Machine) -> None:
    _recall(machine, machine.number("<I"))


def _recall(machine: Machine, index: int) -> None:
    if index not in machine.memo:
        raise WeightsError(f"damaged pickle: memo entry {index} was never written")
    machine.stack.append(machine.memo[index])


@_opcode(pickle.GLOBAL)
def _global(machine: Machine) -> None:
    module = machine.line()
    machine.push_global(module, machine.line())


@_opcode(pickle.STACK_GLOBAL)
def _stack_global(machine: Machine) -> None:
    name, module = machine.pop(str), machine.pop(str)
    machine.push_global(module, name)


@_opcode(pickle.REDUCE)
def _reduce(machine: Machine) -> None:
    arguments, function = machine.pop(tuple), machine.pop(Global)
    if function.call is None:
        raise WeightsError(f"refused call of {function.name}: it is not a function here")
    machine.stack.append(function.call(arguments))


@_opcode(pickle.NEWOBJ)
def _new_object(machine: Machine) -> None:
    arguments, kind = machine.pop(tuple), machine.pop(Global)
    if not kind.record or arguments:
        raise WeightsError(f"refused object of {kind.name}: only plain records are built")
    machine.stack.append(Record(kind.name))


@_opcode(pickle.BUILD)
def _build(machine: Machine) -> None:
    state, target = machine.pop(), machine.pop()
    if type(target) is dict:
        # An OrderedDict with attributes: torch hangs `_metadata` (module versions) on state dicts.
        if type(state) is not dict:
            raise WeightsError("damaged pickle: a dictionary's attributes are not a dictionary")
    elif hasattr(target, "set_state"):
        target.set_state(state)
    else:
        raise WeightsError(f"refused pickle state for {shown(target)}: nothing was set")
    machine.stack.append(target)


@_opcode(pickle.BINPERSID)
def _persistent(machine: Machine) -> None:
    identifier = machine.pop()
    machine.stack.append(machine.persistent_load(identifier))
