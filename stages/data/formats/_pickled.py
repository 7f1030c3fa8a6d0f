"""Data out of a pickle without unpickling it: its opcodes are read one by one, and nothing that it names is called.

Known are containers, numbers, text, bytes and numpy arrays of bytes, as in CIFAR's files and in what people save anew
out of them; anything else is refused with its name. (Opcodes: Python's Lib/pickletools.py.)
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.data.formats._files import printable

_MAX_BYTES = 1 << 30
_MAX_TOLD = 200  # characters of a reason, which may quote the file
_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMERIC = ("numpy.core.numeric", "numpy._core.numeric")


@dataclass(frozen=True)
class _Name:
    """What a pickle wants to import; only ever compared."""

    module: str
    name: str


_RECONSTRUCT = [_Name(module, "_reconstruct") for module in _MULTIARRAY]
_FROM_BUFFER = [_Name(module, "_frombuffer") for module in _NUMERIC]
_NDARRAY, _DTYPE, _ENCODE = _Name("numpy", "ndarray"), _Name("numpy", "dtype"), _Name("_codecs", "encode")
_KNOWN = {*_RECONSTRUCT, *_FROM_BUFFER, _NDARRAY, _DTYPE, _ENCODE}


@dataclass
class _Array:
    """An array while it is put together."""

    value: NDArray[np.uint8] | None = None


class _Type:
    """uint8, the one dtype that is known."""


_MARK = object()


def read_pickled(file: Path) -> Any:
    """Its dicts, lists, tuples, numbers, text, bytes and arrays uint8; ValueError when it holds anything else."""
    if file.stat().st_size > _MAX_BYTES:
        raise ValueError(f"{file} is larger than {_MAX_BYTES} bytes")
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(file.read_bytes()):
            machine.step(opcode.name, argument)
        return machine.result()
    except _Refused as error:
        raise ValueError(f"{file} is a pickle that {_line(error)}: it was not run") from None
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, StopIteration) as error:
        raise ValueError(f"{file} is no pickle of plain data: {_line(error)}") from error


def _line(error: Exception) -> str:
    return " ".join(printable(str(error)).split())[:_MAX_TOLD]


class _Refused(Exception):  # noqa: N818 - told as a ValueError
    """The pickle asks for more than data."""


class _Machine:
    """The stack and memo of a pickle, over values that can do nothing."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """One opcode."""
        if name in _IGNORED:
            return
        if name in _LITERALS:
            self.stack.append(_LITERALS[name](argument))
        elif (act := _ACTIONS.get(name)) is not None:
            act(self, argument)
        else:
            raise _Refused(f"uses {name}, which plain data do without")

    def result(self) -> Any:
        """What is left at the end."""
        if len(self.stack) != 1:
            raise ValueError(f"{len(self.stack)} values are left at its end, must be one")
        return _plain(self.stack[0])

    def above_mark(self) -> list[Any]:
        """Take what lies above the topmost mark, and the mark."""
        start = next(i for i in range(len(self.stack) - 1, -1, -1) if self.stack[i] is _MARK)
        taken = self.stack[start + 1 :]
        del self.stack[start:]
        return taken

    def push_name(self, module: Any, name: Any) -> None:
        """A name that is imported, if it is one of those of arrays."""
        wanted = _Name(str(module), str(name))
        if wanted not in _KNOWN:
            raise _Refused(f"imports {wanted.module}.{wanted.name}")
        self.stack.append(wanted)

    def append(self, values: list[Any]) -> None:
        """To the list on top."""
        _typed(self.stack[-1], list).extend(values)

    def set_items(self, values: list[Any]) -> None:
        """Keys, text in either Python, and values in turn, into the dict on top."""
        _typed(self.stack[-1], dict).update(zip(map(_text, values[::2]), values[1::2], strict=True))

    def reduce(self) -> None:
        """A call: only those that make an array, its type, or bytes out of Latin-1 text."""
        arguments, wanted = _typed(self.stack.pop(), tuple), self.stack.pop()
        if wanted in _RECONSTRUCT and arguments and arguments[0] == _NDARRAY:
            self.stack.append(_Array())
        elif wanted == _DTYPE and arguments and _text(arguments[0]) in ("u1", "|u1", "B", "uint8"):
            self.stack.append(_Type())
        elif wanted == _ENCODE and len(arguments) == 2 and arguments[1] == "latin1":
            self.stack.append(_typed(arguments[0], str).encode("latin-1"))
        elif wanted in _FROM_BUFFER and len(arguments) == 4:
            data, kind, shape, order = arguments
            self.stack.append(_Array(_array(data, kind, shape, is_fortran=order == "F")))
        else:
            told = f"{wanted.module}.{wanted.name}" if isinstance(wanted, _Name) else type(wanted).__name__
            raise _Refused(f"calls {told} with {repr(arguments)[:80]}")

    def build(self) -> None:
        """The state of an array or of its type."""
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, _Array) and isinstance(state, tuple) and len(state) == 5:
            _, shape, kind, is_fortran, data = state
            target.value = _array(data, kind, shape, bool(is_fortran))
        elif not isinstance(target, _Type):
            raise _Refused(f"sets the state of a {type(target).__name__}")


def _array(data: Any, kind: Any, shape: Any, is_fortran: bool) -> NDArray[np.uint8]:
    if not isinstance(kind, _Type) or not isinstance(data, bytes | bytearray | str):
        raise _Refused("holds an array of something else than bytes")
    held = data.encode("latin-1") if isinstance(data, str) else bytes(data)
    return np.frombuffer(held, np.uint8).reshape(shape, order="F" if is_fortran else "C")


def _plain(value: Any) -> Any:
    """Arrays as such, in containers of one level: a file of CIFAR is a dict of lists and an array."""
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, dict):
        return {key: _plain(inner) if isinstance(inner, _Array) else inner for key, inner in value.items()}
    return value


def _typed(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise ValueError(f"a {type(value).__name__} where a {kind.__name__} must be")
    return value


def _text(value: Any) -> Any:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _bytes(value: Any) -> bytes:
    """Python 2's strings, which pickletools gives as Latin-1 text."""
    held: bytes = value.encode("latin-1") if isinstance(value, str) else value
    return held


_IGNORED = frozenset({"PROTO", "FRAME", "STOP"})
_NUMBERS = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT")
_LITERALS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys((*_NUMBERS, "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE"), lambda value: value),
    **dict.fromkeys(("SHORT_BINSTRING", "BINSTRING", "STRING", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8"), _bytes),
    "BYTEARRAY8": bytes,
    "NONE": lambda _: None,
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
    "EMPTY_DICT": lambda _: {},
    "EMPTY_LIST": lambda _: [],
    "EMPTY_TUPLE": lambda _: (),
    "MARK": lambda _: _MARK,
}


def _pushed(make: Callable[[_Machine], Any]) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.stack.append(make(machine))


def _last(machine: _Machine, num: int) -> list[Any]:
    if len(machine.stack) < num:
        raise ValueError("it takes more values than there are")
    taken = machine.stack[-num:]
    del machine.stack[-num:]
    return taken


def _as_dict(values: list[Any]) -> dict[Any, Any]:
    return dict(zip(map(_text, values[::2]), values[1::2], strict=True))


def _remember(machine: _Machine, place: Any) -> None:
    machine.memo[len(machine.memo) if place is None else place] = machine.stack[-1]


_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _remember),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda machine, place: machine.stack.append(machine.memo[place])),
    "TUPLE": _pushed(lambda machine: tuple(machine.above_mark())),
    "TUPLE1": _pushed(lambda machine: tuple(_last(machine, 1))),
    "TUPLE2": _pushed(lambda machine: tuple(_last(machine, 2))),
    "TUPLE3": _pushed(lambda machine: tuple(_last(machine, 3))),
    "LIST": _pushed(lambda machine: machine.above_mark()),
    "DICT": _pushed(lambda machine: _as_dict(machine.above_mark())),
    "APPEND": lambda machine, _: machine.append(_last(machine, 1)),
    "APPENDS": lambda machine, _: machine.append(machine.above_mark()),
    "SETITEM": lambda machine, _: machine.set_items(_last(machine, 2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.above_mark()),
    "GLOBAL": lambda machine, names: machine.push_name(*names.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.push_name(*_last(machine, 2)),
    "REDUCE": lambda machine, _: machine.reduce(),
    "BUILD": lambda machine, _: machine.build(),
}
