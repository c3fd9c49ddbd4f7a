"""Structures of a file, one after the other: extended XYZ, ASE databases, trajectories and all else that ASE reads."""

import lzma
import shutil
import tempfile
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import ase.db
import ase.io
import ase.io.formats
from ase import Atoms

from lmlp_stream.errors import UsageError

COMPRESSED = (".gz", ".xz", ".bz2")
DATABASES = ("db", "json")

READ_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    RuntimeError,
    lzma.LZMAError,
    ase.io.formats.UnknownFileTypeError,
)
"""What ASE's many readers raise over a file that is not what its name says."""


def read_structures(path: Path) -> Iterator[Atoms]:
    """The structures of a file in its order, with their labels where ASE leaves them.

    One structure is in memory at a time where the format allows it (extended XYZ, databases, trajectories). A
    compressed file (.xz, .gz, .bz2) is unpacked into a temporary one first: ASE's readers seek, and a seek into a
    compressed file starts it over. Key-value pairs and data of a database row stand in `atoms.info`.

    Raises:
        UsageError: The file is not there, or what follows cannot be read; the message names the structure's number.
    """
    if not path.is_file():
        raise UsageError(f"there is no file {path}; give the path of a structure file")
    n_read = 0
    try:
        with _unpacked(path) as plain, closing(_iterate(plain)) as structures:
            for atoms in structures:
                yield atoms
                n_read += 1
    except READ_ERRORS as error:
        raise UsageError(
            f"{path}, structure {n_read + 1}: ASE cannot read it ({type(error).__name__}: {error}); "
            f"give extended XYZ, an ASE database or another format that ase.io.read knows by its name"
        ) from error


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    if path.suffix not in COMPRESSED:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="lmlp-stream-") as folder:
        plain = Path(folder) / path.stem
        with ase.io.formats.open_with_compression(str(path), "rb") as packed, plain.open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked, 2**20)
        yield plain


def _iterate(path: Path) -> Generator[Atoms, None, None]:
    if ase.io.formats.filetype(str(path)) in DATABASES:
        yield from _rows(path)
    else:
        yield from ase.io.iread(str(path), index=":", do_not_split_by_at_sign=True)


def _rows(path: Path) -> Iterator[Atoms]:
    with ase.db.connect(str(path)) as database:
        for row in database.select():
            atoms = row.toatoms(add_additional_information=True)
            extra: dict[str, Any] = {**atoms.info.pop("key_value_pairs", {}), **atoms.info.pop("data", {})}
            atoms.info.update(extra)
            yield atoms
