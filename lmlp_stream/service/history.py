"""What the learner did, tick by tick, as JSON lines beside the checkpoints: the source of reports.

After a crash the lines of replayed ticks appear again; the last line of a tick counts.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class History:
    """Appends lines to one file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")

    def append(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Write one line; a figure that is not finite becomes null."""
        self._file.write(json.dumps({"kind": kind, **finite(fields)}, allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def finite(value: Any) -> Any:
    """The value with null for every figure that is not finite: JSON has no word for it."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
