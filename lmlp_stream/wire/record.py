"""The labelled structure on the wire: `encode` writes what a farm knows, `decode` lets in what can be learned."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.wire.arrays import ATOMS, FLOATS, Array, packed
from lmlp_stream.wire.envelope import Envelope
from lmlp_stream.wire.fields import Number, Text
from lmlp_stream.wire.geometry import GEOMETRY_FIELDS, check_magnitude, geometry_values, read_geometry
from lmlp_stream.wire.limits import MAX_ENERGY_PER_ATOM, MAX_STRESS, MAX_WEIGHT, Limits
from lmlp_stream.wire.rejection import Reason, RefusalError, Rejection

__all__ = ["LABELLED_STRUCTURE", "Limits", "Reason", "Rejection", "decode", "encode"]

LABELLED_STRUCTURE = Envelope(
    "labelled-structure",
    1,
    "A structure with its reference energy, forces or both, and the stress where known. Key: group.",
    {
        "id": Text("Idempotency key: the same label always carries the same id."),
        "group": Text("Trajectory segment the structure was cut from; without it, the id.", required=False),
        "domain": Text("What errors are reported by: molecule, reaction or phase.", min_length=0, required=False),
        "level_of_theory": Text("The method that made the label, e.g. 'wB97X/6-31G(d)'.", min_length=0),
        "source": Text("Who published it.", min_length=0, required=False),
        **GEOMETRY_FIELDS,
        "energy": Number("Total energy, eV; leave out where unknown.", required=False),
        "forces": Array("Forces, eV/Å; leave out where unknown.", (ATOMS, 3), FLOATS, required=False),
        "stress": Array("Stress, eV/Å³, tension positive.", (3, 3), FLOATS, required=False),
        "weight": Number("Relative weight in the loss; 1 by default.", maximum=MAX_WEIGHT, above=0.0, required=False),
    },
)


def encode(structure: LabelledStructure) -> bytes:
    """The record of a structure; a label that is NaN throughout is left out, an empty group becomes the id."""
    values = {
        "id": structure.id,
        "group": structure.group_or_id,
        "domain": structure.domain,
        "level_of_theory": structure.level_of_theory,
        "source": structure.source,
        **geometry_values(structure),
        "weight": float(structure.weight),
    }
    if not np.isnan(structure.energy):
        values["energy"] = float(structure.energy)
    if not np.isnan(structure.forces).all():
        values["forces"] = packed(structure.forces, "<f8")
    if structure.stress is not None and not np.isnan(structure.stress).all():
        values["stress"] = packed(structure.stress, "<f8")
    return LABELLED_STRUCTURE.pack(values)


def decode(value: bytes, limits: Limits) -> LabelledStructure | Rejection:
    """The structure a record holds, or why it is not let in; never raises, whatever the bytes."""
    try:
        fields = LABELLED_STRUCTURE.open(value, max_bytes=limits.max_record_bytes, max_atoms=limits.max_atoms)
        return _structure(fields, limits)
    except RefusalError as refusal:
        return refusal.rejection


def _structure(fields: Mapping[str, Any], limits: Limits) -> LabelledStructure:
    _check_level(fields["level_of_theory"], limits)
    if "energy" not in fields and "forces" not in fields:
        raise RefusalError(Reason.NO_LABEL, "the record has neither energy nor forces; send at least one")
    geometry = read_geometry(fields, limits)
    _check_labels(fields, limits, isolated=not geometry["pbc"].any())
    shape = geometry["positions"].shape
    return LabelledStructure(
        **geometry,
        id=fields["id"],
        group=fields.get("group", fields["id"]),
        domain=fields.get("domain", ""),
        energy=fields.get("energy", np.nan),
        forces=fields["forces"] if "forces" in fields else np.full(shape, np.nan),
        stress=fields.get("stress"),
        level_of_theory=fields["level_of_theory"],
        source=fields.get("source", ""),
        weight=fields.get("weight", 1.0),
    )


def _check_level(level: str, limits: Limits) -> None:
    if level not in (limits.level_of_theory, *limits.further_levels):
        beside = f" and {len(limits.further_levels)} further ones are" if limits.further_levels else " is"
        raise RefusalError(
            Reason.LEVEL_OF_THEORY,
            f"level_of_theory is {level[:64]!r}; only {limits.level_of_theory[:64]!r}{beside} learned here "
            "(wire.level_of_theory; wire.further_levels lets others in beside it)",
        )


def _check_labels(fields: Mapping[str, Any], limits: Limits, *, isolated: bool) -> None:
    n_atoms = len(fields["atomic_numbers"])
    energy_per_atom = fields.get("energy", 0.0) / n_atoms
    if abs(energy_per_atom) > MAX_ENERGY_PER_ATOM:
        raise RefusalError(
            Reason.OUT_OF_RANGE,
            f"energy is {energy_per_atom:g} eV per atom; send at most {MAX_ENERGY_PER_ATOM:g} eV (check the unit)",
        )
    if "forces" in fields:
        _check_forces(fields["forces"], limits, isolated=isolated)
    if "stress" in fields:
        check_magnitude(fields["stress"], MAX_STRESS, "stress", "eV/Å³")


def _check_forces(forces: Float[np.ndarray, "A 3"], limits: Limits, *, isolated: bool) -> None:
    largest = np.abs(forces).max()
    if not largest <= limits.max_force:
        check_magnitude(forces, np.finfo(np.float64).max, "forces", "eV/Å")
        atom = int(np.argmax(np.abs(forces))) // 3
        raise RefusalError(
            Reason.FORCE_TOO_LARGE,
            f"atom {atom} has a force component of {largest:g} eV/Å; send at most {limits.max_force:g} eV/Å "
            "(wire.max_force; check the unit)",
        )
    if isolated:
        net_force = float(np.linalg.norm(forces.sum(axis=0))) / len(forces)
        if net_force > limits.max_net_force:
            raise RefusalError(
                Reason.NET_FORCE,
                f"the net force on this isolated molecule is {net_force:g} eV/Å per atom; send at most "
                f"{limits.max_net_force:g} eV/Å (wire.max_net_force; check signs, units and the order of atoms)",
            )
