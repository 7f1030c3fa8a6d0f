"""stages/data/formats/_pickled.py: data come out of a pickle, and nothing in it is ever run."""

import collections
import os
import pickle
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.data.formats._pickled import read_pickled

ARRAY = np.arange(60, dtype=np.uint8).reshape(12, 5)
DATA = {"data": ARRAY, "labels": list(range(12)) * 200, "name": b"train", "text": "Größe", "big": 2**70, "f": 0.5}

# `python2 -c "import cPickle, numpy; ..."` wrote CIFAR's own files: these are their opcodes for a batch of two images.
PYTHON_2 = (
    b"\x80\x02}q\x01(U\x0bbatch_labelq\x02U\x15training batch 1 of 5q\x03U\x06labelsq\x04]q\x05(K\x06K\x09e"
    b"U\x04dataq\x06cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85U\x01b\x87Rq\x09(K\x01K\x02K\x03\x86"
    b"cnumpy\ndtype\nq\x0aU\x02u1K\x00K\x01\x87Rq\x0b(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
    b"U\x06\x01\x02\x03\xff\xfe\xfdtbU\tfilenamesq\x0c]q\x0d(U\x05a.pngq\x0eU\x05b.pngq\x0feu."
)


def file_of(folder: Path, data: bytes) -> Path:
    file = folder / "batch"
    file.write_bytes(data)
    return file


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_python_3_wrote_comes_back(tmp_path: Path, protocol: int) -> None:
    said = read_pickled(file_of(tmp_path, pickle.dumps(DATA, protocol)))
    assert np.array_equal(said.pop("data"), ARRAY)
    assert said == {key: value for key, value in DATA.items() if key != "data"}


def test_what_python_2_wrote_comes_back(tmp_path: Path) -> None:
    said = read_pickled(file_of(tmp_path, PYTHON_2))
    assert said["data"].tolist() == [[1, 2, 3], [255, 254, 253]]
    assert (said["labels"], said["filenames"]) == ([6, 9], [b"a.png", b"b.png"])
    assert said["batch_label"] == b"training batch 1 of 5"
    loaded = pickle.loads(PYTHON_2, encoding="bytes")  # written here, above: the reference
    assert np.array_equal(loaded[b"data"], said["data"])


def test_fortran_order_is_kept(tmp_path: Path) -> None:
    said = read_pickled(file_of(tmp_path, pickle.dumps({"data": np.asfortranarray(ARRAY)}, 2)))
    assert np.array_equal(said["data"], ARRAY)


class Runs:
    """What runs a command when it is unpickled."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.told = (call, arguments)

    def __reduce__(self) -> Any:
        return self.told


def attacks(mark: Path) -> dict[str, bytes]:
    """Each would write `mark` if it were unpickled, but for those that need no call."""
    command = f"touch {mark}"
    by_reduce = {f"reduce, protocol {p}": pickle.dumps({"data": Runs(os.system, command)}, p) for p in range(6)}
    others = {
        "eval": pickle.dumps([Runs(eval, f"__import__('os').system('{command}')")]),
        "subprocess": pickle.dumps(Runs(subprocess.call, ["touch", str(mark)])),
        "global": b"cos\nsystem\n(S'" + command.encode() + b"'\ntR.",
        "inst": b"(S'" + command.encode() + b"'\nios\nsystem\n.",
        "obj": b"(cos\nsystem\nS'" + command.encode() + b"'\no.",
        "stack global": b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c"
        + bytes([len(command)])
        + command.encode()
        + b"\x85R.",
        "newobj": b"\x80\x02csubprocess\nPopen\n(]S'touch'\nae\x85\x81.",
        "an import alone": b"cantigravity\nfly\n.",
        "numpy's own door": b"cnumpy.testing._private.utils\nrunstring\n(S'x'\n}tR.",
        "numpy's load": b"cnumpy\nload\n(S'x'\ntR.",
        "dtype of objects": b"cnumpy\ndtype\n(S'O8'\nK\x00K\x01tR.",
        "reconstruct of another class": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\ndtype\n(K\x00tS'b'\ntR.",
        "codecs with another codec": b"c_codecs\nencode\n(Vx\nVrot13\ntR.",
        "state of a list": b"(l(dS'a'\nI1\nsb.",
        "persistent id": b"Pfile\n.",
        "binary persistent id": b"I1\nQ.",
        "extension": b"\x82\x01.",
    }
    return by_reduce | others


NAMES = list(attacks(Path("x")))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_run_and_the_reason_is_told(tmp_path: Path, name: str) -> None:
    mark = tmp_path / "run"
    file = file_of(tmp_path, attacks(mark)[name])
    with pytest.raises(ValueError, match=r"is a pickle that (imports|calls|uses|sets).*it was not run") as error:
        read_pickled(file)
    assert "\n" not in str(error.value)
    assert not mark.exists()


def test_the_attacks_are_real(tmp_path: Path) -> None:
    """What the tests above refuse does write the file when Python unpickles it."""
    mark = tmp_path / "run"
    pickle.loads(attacks(mark)["reduce, protocol 2"])
    assert mark.exists()


BROKEN = {
    "empty": b"",
    "text": b"label,name\n",
    "cut": pickle.dumps(DATA, 2)[:-40],
    "no stop": pickle.dumps(DATA, 2)[:-1],
    "pops too much": b"\x80\x02\x87.",
    "no mark": b"\x80\x02t.",
    "memo that is not there": b"\x80\x02h\x07.",
    "two values": b"I1\nI2\n.",
    "append to a number": b"I1\nI2\na.",
    "a dict as a key": b"}}I1\ns.",
    "array of a wrong shape": pickle.dumps(ARRAY, 2).replace(b"K\x0cK\x05\x86", b"K\x0dK\x05\x86"),
    "huge shape": pickle.dumps(ARRAY, 2).replace(b"K\x0cK\x05\x86", b"J\xff\xff\xff\x7fK\x05\x86"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_one_line(tmp_path: Path, name: str) -> None:
    file = file_of(tmp_path, BROKEN[name])
    with pytest.raises(ValueError, match="is no pickle of plain data") as error:
        read_pickled(file)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


def test_other_classes_are_refused_by_name(tmp_path: Path) -> None:
    file = file_of(tmp_path, pickle.dumps(collections.OrderedDict(a=1)))
    with pytest.raises(ValueError, match=r"imports collections\.OrderedDict: it was not run"):
        read_pickled(file)


def test_whatever_is_changed_in_a_file_it_is_read_or_refused(tmp_path: Path) -> None:
    """Bytes replaced, cut out and put in, opcodes among them: never another error than the one line."""
    rng = np.random.default_rng(0)
    wholes = [pickle.dumps({"data": ARRAY, "labels": [1, 2, 3]}, p) for p in range(6)] + [PYTHON_2]
    opcodes = np.frombuffer(b"(lpd}]tRbsaeu.012\x85\x86\x87\x93\x94hq\n\x81\x82", np.uint8)
    num_refused = 0
    for number in range(1000):
        data = bytearray(wholes[number % len(wholes)])
        for _ in range(rng.integers(1, 4)):
            place = int(rng.integers(len(data)))
            data[place : place + int(rng.integers(6))] = rng.choice(opcodes, int(rng.integers(5))).tobytes()
        try:
            read_pickled(file_of(tmp_path, bytes(data)))
        except ValueError as error:
            num_refused += 1
            assert "\n" not in str(error)
    assert 0 < num_refused < 1000
