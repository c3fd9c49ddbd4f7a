"""Structures as a few flat arrays and back, bit for bit: how the memory of a learner lies in its state."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lmlp_stream.atoms.structure import LabelledStructure

_TEXTS = ("id", "group", "domain", "level_of_theory", "source")
_NUMBERS = ("charge", "energy", "weight")


def text_column(texts: object) -> np.ndarray:
    """Plain values as the bytes of their JSON, uint8."""
    return np.frombuffer(json.dumps(texts, ensure_ascii=False).encode(), dtype=np.uint8)


def read_text_column(column: np.ndarray) -> list[str]:
    """The texts `text_column` wrote."""
    texts: list[str] = _plain(column)
    return texts


def to_columns(structures: Sequence[LabelledStructure]) -> dict[str, np.ndarray]:
    """Structures as arrays by field: atoms of all structures one after another, one row for each structure."""
    columns = {name: np.array([getattr(item, name) for item in structures], dtype=np.float64) for name in _NUMBERS}
    no_stress = np.full((3, 3), np.nan)
    return columns | {
        "texts": text_column({name: [getattr(item, name) for item in structures] for name in _TEXTS}),
        "record": np.array([item.record for item in structures], dtype=np.int64).reshape(-1, 2),
        "vouched": np.array([item.vouched for item in structures], dtype=np.bool_),
        "multiplicity": np.array([item.multiplicity for item in structures], dtype=np.int64),
        "n_atoms": np.array([item.n_atoms for item in structures], dtype=np.int64),
        "atomic_numbers": _joined([item.atomic_numbers for item in structures], (), np.int64),
        "positions": _joined([item.positions for item in structures], (3,), np.float64),
        "forces": _joined([item.forces for item in structures], (3,), np.float64),
        "cell": _joined([item.cell for item in structures], (3,), np.float64).reshape(-1, 3, 3),
        "pbc": _joined([item.pbc for item in structures], (), np.bool_).reshape(-1, 3),
        "has_stress": np.array([item.stress is not None for item in structures], dtype=np.bool_),
        "stress": _joined(
            [no_stress if item.stress is None else item.stress for item in structures], (3,), np.float64
        ).reshape(-1, 3, 3),
    }


def from_columns(columns: Mapping[str, np.ndarray]) -> list[LabelledStructure]:
    """The structures `to_columns` wrote."""
    texts = _plain(columns["texts"])
    stops = np.cumsum(columns["n_atoms"])
    structures = []
    for row, (stop, n_atoms) in enumerate(zip(stops, columns["n_atoms"], strict=True)):
        atoms = slice(int(stop - n_atoms), int(stop))
        structures.append(
            LabelledStructure(
                id=texts["id"][row],
                group=texts["group"][row],
                domain=texts["domain"][row],
                level_of_theory=texts["level_of_theory"][row],
                source=texts["source"][row],
                charge=float(columns["charge"][row]),
                energy=float(columns["energy"][row]),
                weight=float(columns["weight"][row]),
                record=(int(columns["record"][row, 0]), int(columns["record"][row, 1])),
                vouched=bool(columns["vouched"][row]),
                multiplicity=int(columns["multiplicity"][row]),
                atomic_numbers=columns["atomic_numbers"][atoms].copy(),
                positions=columns["positions"][atoms].copy(),
                forces=columns["forces"][atoms].copy(),
                cell=columns["cell"][row].copy(),
                pbc=columns["pbc"][row].copy(),
                stress=columns["stress"][row].copy() if columns["has_stress"][row] else None,
            )
        )
    return structures


def in_room(state: Mapping[str, np.ndarray], room: str) -> dict[str, np.ndarray]:
    """The arrays whose names begin with `room`, by the rest of their names."""
    return {name.removeprefix(room): array for name, array in state.items() if name.startswith(room)}


def _joined(arrays: list[np.ndarray], row_shape: tuple[int, ...], dtype: type[np.generic]) -> np.ndarray:
    return np.concatenate([np.zeros((0, *row_shape), dtype=dtype), *arrays]).astype(dtype, copy=False)


def _plain(column: np.ndarray) -> Any:
    return json.loads(column.tobytes().decode())
