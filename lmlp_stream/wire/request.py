"""The label request: a simulation asks for the reference energy and forces of a structure it is unsure of."""

import hashlib
from dataclasses import dataclass
from math import isnan, nan

import numpy as np
import numpy.typing as npt

from lmlp_stream.atoms.structure import Structure
from lmlp_stream.wire.envelope import Envelope
from lmlp_stream.wire.fields import Number, Text
from lmlp_stream.wire.geometry import GEOMETRY_FIELDS, geometry_values, read_geometry
from lmlp_stream.wire.limits import Limits
from lmlp_stream.wire.rejection import RefusalError, Rejection

LABEL_REQUEST = Envelope(
    "label-request",
    1,
    "A structure whose label is wanted. Key: id.",
    {
        "id": Text("Hash of the rounded geometry; the same geometry is labelled once."),
        "uncertainty": Number(
            "Largest uncertainty of a force component, eV/Å; left out where an element is unknown.",
            minimum=0.0,
            required=False,
        ),
        "priority": Number("Higher is more urgent."),
        "requester": Text("Who asks.", min_length=0),
        "snapshot_id": Text("The snapshot that is uncertain.", min_length=0),
        "expires_at": Number("When the answer is no longer wanted, Unix time in s.", minimum=0.0),
        **GEOMETRY_FIELDS,
    },
)

_GEOMETRY_DECIMALS = 3


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LabelRequest:
    """A structure whose label is wanted.

    Attributes:
        id: `request_id` of the structure.
        structure: What should be labelled.
        uncertainty: Largest uncertainty of a force component in eV/Å; NaN where an element is unknown.
        priority: Higher is more urgent.
        requester: Who asks.
        snapshot_id: The snapshot that is uncertain.
        expires_at: When the answer is no longer wanted, Unix time in s.
    """

    id: str
    structure: Structure
    uncertainty: float
    priority: float
    requester: str
    snapshot_id: str
    expires_at: float


def encode_request(request: LabelRequest) -> bytes:
    """The record of a label request."""
    known = {} if isnan(request.uncertainty) else {"uncertainty": float(request.uncertainty)}
    return LABEL_REQUEST.pack(
        {
            "id": request.id,
            **known,
            "priority": float(request.priority),
            "requester": request.requester,
            "snapshot_id": request.snapshot_id,
            "expires_at": float(request.expires_at),
            **geometry_values(request.structure),
        }
    )


def decode_request(value: bytes, limits: Limits) -> LabelRequest | Rejection:
    """The request a record holds, or why it is not let in; never raises. Expired requests are the caller's matter."""
    try:
        fields = LABEL_REQUEST.open(value, max_bytes=limits.max_record_bytes, max_atoms=limits.max_atoms)
        structure = Structure(**read_geometry(fields, limits))
    except RefusalError as refusal:
        return refusal.rejection
    said = {name: value for name, value in fields.items() if name not in GEOMETRY_FIELDS}
    return LabelRequest(structure=structure, **{"uncertainty": nan, **said})


def request_id(structure: Structure) -> str:
    """SHA-256, in hex, of the geometry rounded to 0.001 Å, with charge and multiplicity: near copies share it."""
    digest = hashlib.sha256()
    digest.update(np.asarray(structure.atomic_numbers, "<i8").tobytes())
    for lengths in (structure.positions, structure.cell):
        digest.update(_rounded(lengths).tobytes())
    digest.update(np.asarray(structure.pbc, "|u1").tobytes())
    digest.update(f"{structure.charge:.3f} {structure.multiplicity}".encode())
    return digest.hexdigest()


def _rounded(lengths: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    rounded: npt.NDArray[np.int64] = np.rint(np.asarray(lengths) * 10**_GEOMETRY_DECIMALS).astype("<i8")
    return rounded
