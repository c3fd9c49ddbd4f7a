"""Labelled structures made from ASE's, and tried at the door before anyone sends them."""

import numpy as np
from ase import Atoms

from lmlp_stream.atoms.structure import LabelledStructure, Structure, from_ase
from lmlp_stream.errors import UsageError
from lmlp_stream.farm.labels import Labels
from lmlp_stream.farm.naming import Naming, structure_id
from lmlp_stream.wire.record import Limits, Rejection, decode, encode


def labelled(
    atoms: Atoms, labels: Labels, naming: Naming, *, place: str, level_of_theory: str, source: str
) -> LabelledStructure:
    """The structure of `atoms` with its labels, id, domain and group.

    Raises:
        UsageError: Its charge or multiplicity is no number, or it lacks an `info` key that was asked for.
    """
    try:
        structure = from_ase(atoms)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{place}: charge or multiplicity cannot be read ({error}); give numbers") from error
    identity = structure_id(structure, labels, level_of_theory)
    domain = naming.domain(atoms, place)
    group = naming.group(atoms, place, domain, identity)
    return with_labels(
        structure,
        labels,
        id_=identity,
        domain=domain,
        group=group,
        level_of_theory=level_of_theory,
        source=source,
    )


def with_labels(
    structure: Structure, labels: Labels, *, id_: str, domain: str, group: str, level_of_theory: str, source: str
) -> LabelledStructure:
    """A structure joined with its labels and names."""
    return LabelledStructure(
        atomic_numbers=structure.atomic_numbers,
        positions=structure.positions,
        cell=structure.cell,
        pbc=structure.pbc,
        charge=structure.charge,
        multiplicity=structure.multiplicity,
        id=id_,
        group=group,
        domain=domain,
        energy=labels.energy,
        forces=np.asarray(labels.forces, dtype=np.float64),
        stress=labels.stress,
        level_of_theory=level_of_theory,
        source=source,
    )


def tried(structure: LabelledStructure, limits: Limits) -> bytes | Rejection:
    """The record of a structure, or why a learner with these limits would refuse it."""
    record = encode(structure)
    verdict = decode(record, limits)
    return verdict if isinstance(verdict, Rejection) else record
