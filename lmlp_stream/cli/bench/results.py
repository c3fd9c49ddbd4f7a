"""Where a bench writes: made, or refused before anything is measured."""

from pathlib import Path

from lmlp_stream.errors import UsageError


def make_folder(path: Path, *, option: str = "--out") -> None:
    """Make a folder of results, which an option names, where it is missing.

    Raises:
        UsageError: It cannot be made, or is a file.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make {path}: {error.strerror}; name another folder with {option}") from error


def check_file(path: Path) -> None:
    """Check that a file of results has a folder to lie in.

    Raises:
        UsageError: It has none, or is a folder itself.
    """
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"{path} cannot be made; name a file in a folder that exists with --out")
