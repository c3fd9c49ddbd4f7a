"""Small whole files in a local folder or at any fsspec URL: bounded reads, durable writes."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from lmlp_stream.errors import DamagedStoreError, UsageError

PROTOCOLS = frozenset(
    ("file", "local", "memory", "http", "https", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "hdfs", "sftp", "ssh")
)
"""Stores that are opened. The URL may come out of an announcement, and fsspec knows protocols that connect, unpack or
run something while they are opened."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of a file system.

    Attributes:
        files: The fsspec file system.
        path: Absolute path in it.
    """

    files: Any
    path: str

    @classmethod
    def of(cls, where: str | Path) -> "Folder":
        """The folder at a path or URL; it need not exist.

        Raises:
            UsageError: The URL has a protocol that is none of `PROTOCOLS` or whose package is not installed.
        """
        text = str(where)
        protocol, colon, _ = text.partition("://")
        if (colon and protocol not in PROTOCOLS) or text.startswith("data:") or "::" in text:
            raise UsageError(
                f"{text[:200]} cannot be opened: it is no plain path or URL; name a folder, or a URL of one of "
                f"{', '.join(sorted(PROTOCOLS))}"
            )
        try:
            files, path = url_to_fs(str(where))
        except (ValueError, ImportError) as error:
            raise UsageError(f"{where} cannot be opened: {error}; name a folder or an fsspec URL") from error
        return cls(files, path.rstrip("/"))

    @property
    def url(self) -> str:
        """Absolute URL, `file:///...` for a local folder."""
        return str(self.files.unstrip_protocol(self.path))

    def __truediv__(self, name: str) -> "Folder":
        return Folder(self.files, f"{self.path}/{name}")

    def names(self) -> list[str]:
        """Names of what lies in the folder, sorted; none if there is no such folder."""
        try:
            paths = self.files.ls(self.path, detail=False, refresh=True)
        except FileNotFoundError:
            return []
        return sorted(str(path).rstrip("/").rsplit("/", 1)[-1] for path in paths)

    def read(self, name: str, max_bytes: int) -> bytes:
        """Content of a file.

        Raises:
            DamagedStoreError: The file is missing, cannot be read, or is longer than `max_bytes`.
        """
        path = f"{self.path}/{name}"
        try:
            if isinstance(self.files, LocalFileSystem) and Path(path).exists() and not Path(path).is_file():
                raise DamagedStoreError(f"{self.url}/{name} is not a regular file; put the file there")
            with self.files.open(path, "rb") as file:
                content: bytes = file.read(max_bytes + 1)
        except OSError as error:
            raise DamagedStoreError(f"{self.url}/{name} cannot be read: {error}") from error
        if len(content) > max_bytes:
            raise DamagedStoreError(f"{self.url}/{name} is longer than the {max_bytes} bytes it may have")
        return content

    def write(self, name: str, content: bytes) -> None:
        """Write a file whole, replacing an older one; in a local folder it is durable when this returns.

        Raises:
            OSError: The disk is full or fails, or the store cannot be reached.
        """
        if isinstance(self.files, LocalFileSystem):
            _write_durably(Path(self.path), name, content)
        else:
            self.files.makedirs(self.path, exist_ok=True)
            self.files.pipe_file(f"{self.path}/{name}", content)


def _write_durably(folder: Path, name: str, content: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".saving-{name}-{os.getpid()}"
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / name)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(folder)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Return when the names in a local folder are durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
