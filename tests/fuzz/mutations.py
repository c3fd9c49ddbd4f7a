"""Messages gone wrong: random bytes, damaged bytes, and well-formed messages that say absurd things."""

import hashlib
import json
import struct
from collections.abc import Callable
from copy import deepcopy
from random import Random
from typing import Any

import msgpack
import numpy as np

Tree = dict[str, Any]

ABSURD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 2**64 - 1,
    0.0, -0.0, 1e-320, 1e12, 1.0000001e12, 1e308, -1e308, float("inf"), float("-inf"), float("nan"),
    "", "x", "\x00", "\x1b[2J", "\u202e", "\ud7ff", "é" * 300, "x" * 5000, "nan", "__import__('os')", "../../x",
    b"", b"\x80\x04N.", b"\xff" * 64, bytes(4096),
    [], [[]], [0] * 5000, [None, {}], {}, {"": 0}, {"d": "|O", "s": [1], "b": b"12345678"},
    {"d": "<f8", "s": [2**62, 3], "b": b""}, {"d": "<f8", "s": [-1, 3], "b": b""}, {"d": "<f8", "s": [], "b": bytes(8)},
)  # fmt: skip
"""Values that no field expects, and the edges of those that fields do expect."""

HEADERS = (
    b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x00", b"\xdc\xff\xff", b"\xde\xff\xff", b"\xdc\x10\x00", b"\xd6\xff\x00\x00\x00\x00",
    b"\x91", b"\x81\xa0",
)  # fmt: skip
"""Beginnings of msgpack values that claim to be long, deep or of an extension type."""

DTYPES = ("|u1", "<i4", "<i8", "<f4", "<f8", ">f8", "|O", "<U4", "<c16", "f8", "")


def mutated(random: Random, seeds: tuple[bytes, ...], *, resign: bool) -> bytes:
    """Bytes made from the seeds, or from nothing."""
    way = random.random()
    if way < 0.08:
        return random.randbytes(random.choice((1, 8, 64, 300)))
    if way < 0.12:
        return b"".join(random.choices(HEADERS, k=random.choice((1, 3, 500, 2000)))) + random.randbytes(8)
    seed = random.choice(seeds)
    if way < 0.4:
        return _damaged(random, seed, seeds)
    return _absurd(random, seed, resign=resign)


def _damaged(random: Random, seed: bytes, seeds: tuple[bytes, ...]) -> bytes:
    value = bytearray(seed)
    for _ in range(random.randint(1, 4)):
        place = random.randrange(len(value) + 1)
        length = min(random.choice((1, 1, 2, 8, 100)), len(value) - place)
        match random.randrange(6):
            case 0:
                value[place : place + length] = random.randbytes(length)
            case 1:
                del value[place : place + length]
            case 2:
                value[place:place] = random.choice(HEADERS)
            case 3:
                value[place:place] = value[max(0, place - length) : place]
            case 4:
                del value[place:]
            case _:
                value[place:] = random.choice(seeds)[place:]
    return bytes(value)


def _absurd(random: Random, seed: bytes, *, resign: bool) -> bytes:
    try:
        tree = msgpack.unpackb(seed)
    except ValueError:
        return seed + random.randbytes(2)
    if not isinstance(tree, dict) or not tree:
        return seed
    for _ in range(random.randint(1, 3)):
        random.choice(CHANGES)(random, tree)
    if resign and random.random() < 0.8:
        _resign(tree)
    try:
        packed = msgpack.packb(tree)
    except (ValueError, OverflowError, TypeError):
        return seed
    if random.random() < 0.05:
        return _with_a_field_twice(random, packed)
    return bytes(packed)


def _replace(random: Random, tree: Tree) -> None:
    branch, key = _place(random, tree)
    branch[key] = deepcopy(random.choice(ABSURD))


def _nudge(random: Random, tree: Tree) -> None:
    """Change a number a little or a lot, a text or binary in one place."""
    branch, key = _place(random, tree)
    match branch[key]:
        case bool() | None:
            branch[key] = deepcopy(random.choice(ABSURD))
        case int(number):
            branch[key] = max(-(2**63), min(2**64 - 1, number + random.choice((-1, 1, 2**8, 2**32, -(2**32)))))
        case float(number):
            branch[key] = number * random.choice((-1.0, 0.0, 1e-300, 1e6, 1e300))
        case str(text):
            branch[key] = text[: random.randint(0, len(text))] + random.choice(("", "\n", "\x7f", "x" * 300))
        case bytes(data):
            branch[key] = _scrambled(random, data)
        case other:
            branch[key] = [other]


def _drop(random: Random, tree: Tree) -> None:
    branch, key = _place(random, tree)
    del branch[key]
    if not tree:
        tree["schema_name"] = "x"


def _add(random: Random, tree: Tree) -> None:
    tree[random.choice(("x", "energy", "stress", "missing_bytes", "\x00", ""))] = deepcopy(random.choice(ABSURD))


def _deepen(random: Random, tree: Tree) -> None:
    branch, key = _place(random, tree)
    for _ in range(random.choice((3, 9, 100))):
        branch[key] = {"a": branch[key]} if random.random() < 0.5 else [branch[key]]


def _rearrange(random: Random, tree: Tree) -> None:
    """Lie about dtype, shape or bytes of an array."""
    arrays = [value for value in tree.values() if isinstance(value, dict) and "b" in value]
    if not arrays:
        return _replace(random, tree)
    array = random.choice(arrays)
    match random.randrange(4):
        case 0:
            array["d"] = random.choice(DTYPES)
        case 1:
            array["s"] = [random.choice((0, 1, 3, -3, 2**31, 2**62)) for _ in range(random.randint(0, 4))]
        case 2:
            array["b"] = _scrambled(random, array["b"] if isinstance(array["b"], bytes) else b"")
        case _:
            array["b"] = random.randbytes(random.choice((0, 1, 8, 24, 72)))
    return None


def _crowd(random: Random, tree: Tree) -> None:
    """As many atoms as are let in, anywhere: what a geometry costs that passes every other check."""
    if "positions" not in tree or random.random() > 0.02:
        return _nudge(random, tree)
    n_atoms = random.choice((30, 300, 2000, 2001))
    generator = np.random.default_rng(random.getrandbits(32))
    width = random.choice((0.0, 1.0, 30.0, 100.0, 1e6, 1e30))
    tree["atomic_numbers"] = {"d": "|u1", "s": [n_atoms], "b": generator.integers(1, 55, n_atoms, "u1").tobytes()}
    for field in ("positions", "forces"):
        numbers = generator.uniform(-width, width, (n_atoms, 3))
        tree[field] = {"d": "<f8", "s": [n_atoms, 3], "b": numbers.tobytes()}
    return None


CHANGES: tuple[Callable[[Random, Tree], None], ...] = (_replace, _nudge, _drop, _add, _deepen, _rearrange, _crowd)


def _place(random: Random, tree: Tree) -> tuple[Any, Any]:
    """A container in the tree and one of its keys."""
    branch: Any = tree
    while True:
        key = random.choice(list(branch)) if isinstance(branch, dict) else random.randrange(len(branch))
        inner = branch[key]
        if not isinstance(inner, dict | list) or not inner or random.random() < 0.3:
            return branch, key
        branch = inner


def _scrambled(random: Random, data: bytes) -> bytes:
    if not data:
        return random.randbytes(3)
    if random.random() < 0.5:
        numbers = (0.0, float("nan"), float("inf"), 1e300, 1e-310, -1e6, random.gauss(0.0, 2.0))
        place = 8 * random.randrange(max(1, len(data) // 8))
        return (data[:place] + struct.pack("<d", random.choice(numbers)) + data[place + 8 :])[: len(data)]
    return random.randbytes(len(data)) if random.random() < 0.5 else data[: random.randrange(len(data))]


def _resign(tree: Tree) -> None:
    """The id that the content has now, as someone who means harm would compute it."""
    free = ("schema_name", "schema_version", "id", "weights_uri", "code_version", "created_at", "signature")
    said = {name: value for name, value in tree.items() if name not in free}
    try:
        canonical = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    except (ValueError, TypeError):
        return
    tree["id"] = hashlib.sha256(canonical.encode()).hexdigest()


def _with_a_field_twice(random: Random, packed: bytes) -> bytes:
    again = msgpack.packb("schema_name") + msgpack.packb(random.choice(("labelled-structure", 1, None)))
    if packed[0] & 0xF0 == 0x80 and packed[0] != 0x8F:
        return bytes([packed[0] + 1]) + packed[1:] + again
    if packed[0] == 0xDE:
        return b"\xde" + (int.from_bytes(packed[1:3]) + 1).to_bytes(2) + packed[3:] + again
    return packed + again
