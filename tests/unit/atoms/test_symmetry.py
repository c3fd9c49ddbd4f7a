import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from lmlp_stream.atoms import symmetry_tensors
from lmlp_stream.atoms.neighbors import neighbor_list
from lmlp_stream.atoms.structure import Structure, from_ase
from lmlp_stream.atoms.symmetry import Descriptors, SymmetryFunctions, SymmetrySpec, spec_of
from lmlp_stream.atoms.symmetry_compiled import CompiledFunctions
from lmlp_stream.atoms.symmetry_tensors import TensorFunctions
from lmlp_stream.config import SymmetryConfig
from lmlp_stream.errors import UsageError
from tests.unit.atoms.derivatives import derivatives

CPU = torch.device("cpu")
SPEC = spec_of(SymmetryConfig(cutoff=4.5))


def functions(spec: SymmetrySpec = SPEC, dtype: torch.dtype = torch.float64) -> SymmetryFunctions:
    return SymmetryFunctions(spec, dtype, CPU)


def ethanol() -> Structure:
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=3)
    return from_ase(atoms)


def moved(structure: Structure, positions: np.ndarray, numbers: np.ndarray | None = None) -> Structure:
    return Structure(
        atomic_numbers=structure.atomic_numbers if numbers is None else numbers,
        positions=positions,
        cell=structure.cell,
        pbc=structure.pbc,
    )


def dimer(distance: float) -> Structure:
    return Structure(
        atomic_numbers=np.array([6, 8]),
        positions=np.array([[0.0, 0.0, 0.0], [distance, 0.0, 0.0]]),
        cell=np.zeros((3, 3)),
        pbc=np.zeros(3, dtype=bool),
    )


def directional(descriptors: Descriptors, direction: np.ndarray) -> torch.Tensor:
    """Change of G per Å when the atoms move along a direction [A 3]."""
    step = torch.tensor(direction)
    relative = step[descriptors.neighbor_index] - step[:, None]
    return torch.einsum("adx,ax->ad", derivatives(descriptors), relative.transpose(1, 2).flatten(1))


def test_derivatives_are_those_of_finite_differences() -> None:
    structure, h = ethanol(), 1e-5
    direction = np.random.default_rng(0).normal(size=structure.positions.shape)
    forward, backward = (
        functions().evaluate(moved(structure, structure.positions + sign * h * direction)).values for sign in (1, -1)
    )
    slope = directional(functions().evaluate(structure), direction)
    torch.testing.assert_close(slope, (forward - backward) / (2 * h), rtol=1e-6, atol=1e-8)


def test_values_do_not_change_when_the_structure_is_moved_turned_or_mirrored() -> None:
    structure = ethanol()
    turn, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))
    turned = moved(structure, structure.positions @ turn.T + [1.0, -20.0, 3.0])
    torch.testing.assert_close(
        functions().evaluate(turned).values, functions().evaluate(structure).values, rtol=1e-11, atol=1e-12
    )


def test_values_follow_their_atoms_through_a_permutation() -> None:
    structure = ethanol()
    order = np.random.default_rng(6).permutation(structure.n_atoms)
    permuted = moved(structure, structure.positions[order], structure.atomic_numbers[order])
    torch.testing.assert_close(
        functions().evaluate(permuted).values, functions().evaluate(structure).values[order], rtol=1e-11, atol=1e-12
    )


@pytest.mark.parametrize("pbc", [(True, True, True), (True, False, True), (False, False, True)])
def test_it_does_not_matter_which_image_of_an_atom_is_named(pbc: tuple[bool, bool, bool]) -> None:
    atoms = bulk("NaCl", "rocksalt", a=5.0)
    atoms.rattle(0.1, seed=1)
    atoms.pbc = pbc
    structure = from_ase(atoms)
    shifts = np.array([[3, 0, -2], [0, 5, 1]]) * structure.pbc
    other = moved(structure, structure.positions + shifts @ structure.cell)
    torch.testing.assert_close(
        functions().evaluate(other).values, functions().evaluate(structure).values, rtol=1e-11, atol=1e-12
    )


def test_images_may_be_a_million_angstrom_away() -> None:
    structure = from_ase(bulk("NaCl", "rocksalt", a=5.0, cubic=True))
    shifts = np.random.default_rng(2).integers(-200_000, 200_000, size=(structure.n_atoms, 3))
    other = moved(structure, structure.positions + shifts @ structure.cell)
    torch.testing.assert_close(
        functions().evaluate(other).values, functions().evaluate(structure).values, rtol=1e-7, atol=1e-7
    )


@pytest.mark.parametrize("pbc", [(True, True, True), (True, True, False), (False, False, True)])
def test_a_supercell_repeats_the_values_of_a_cell_thinner_than_the_cutoff(pbc: tuple[bool, bool, bool]) -> None:
    atoms = bulk("NbMo", "cesiumchloride", a=3.2)
    atoms.rattle(0.1, seed=1)
    atoms.pbc = pbc
    supercell = atoms.repeat([2 if periodic else 1 for periodic in pbc])
    small, large = (functions().evaluate(from_ase(item)).values for item in (atoms, supercell))
    torch.testing.assert_close(large, small.repeat(len(supercell) // 2, 1), rtol=1e-11, atol=1e-12)


def test_values_and_derivatives_reach_zero_smoothly_at_the_cutoff() -> None:
    previous = np.inf
    for gap in (0.5, 0.1, 0.03, 0.01):
        descriptors = functions().evaluate(dimer(SPEC.cutoff - gap))
        size = max(descriptors.values.abs().max().item(), derivatives(descriptors).abs().max().item())
        assert size < previous
        previous = size
    assert previous < 1e-40
    assert functions().evaluate(dimer(SPEC.cutoff + 1e-9)).values.abs().max() == 0


@pytest.mark.parametrize("spread", [0.0, 1e-12, 1e-9, 1e-6])
def test_collinear_neighbors_have_finite_and_continuous_derivatives(spread: float) -> None:
    def chain(offset: float) -> Structure:
        positions = np.array([[0.0, 0.0, 0.0], [1.2, offset, 0.0], [-1.1, 0.0, 0.0], [2.3, 0.0, 0.0]])
        return Structure(
            atomic_numbers=np.array([6, 8, 7, 1]), positions=positions, cell=np.zeros((3, 3)), pbc=np.zeros(3, bool)
        )

    straight, bent = functions().evaluate(chain(0.0)), functions().evaluate(chain(spread))
    assert derivatives(straight).isfinite().all()
    torch.testing.assert_close(derivatives(bent), derivatives(straight), rtol=0, atol=50 * spread + 1e-12)


@pytest.mark.parametrize("angle", [60.0, 120.0, 180.0])
def test_curvatures_change_gradually_where_a_single_triple_dominates(angle: float) -> None:
    step = np.radians(0.1)
    values = np.array(
        [functions().evaluate(bent(np.radians(angle) + index * step)).values[0].numpy() for index in range(-30, 31)]
    )
    curvatures = np.diff(values, n=2, axis=0) / step**2
    assert np.ptp(curvatures, axis=0).max() < 0.2 * np.abs(curvatures).max()


def bent(angle: float) -> Structure:
    """Two hydrogens at nitrogen, their angle in rad, and a third one far away."""
    near = [[1.01, 0.0, 0.0], [1.01 * np.cos(angle), 1.01 * np.sin(angle), 0.0]]
    return from_ase(Atoms("NH3", [[0.0, 0.0, 0.0], *near, [0.3, -0.4, 2.6]]))


def test_an_isolated_atom_has_zero_values_and_no_neighbors() -> None:
    alone = Structure(
        atomic_numbers=np.array([6]), positions=np.zeros((1, 3)), cell=np.zeros((3, 3)), pbc=np.zeros(3, dtype=bool)
    )
    descriptors = functions().evaluate(alone)
    assert descriptors.values.abs().max() == 0
    assert descriptors.radial.shape == (1, 0, len(SPEC.radial))
    assert descriptors.angular.shape == (1, len(SPEC.angular), 0)
    assert descriptors.units.shape == (1, 3, 0)
    assert descriptors.distances.shape == (1, 0)


def test_an_atom_out_of_reach_of_a_molecule_has_zero_values() -> None:
    structure = ethanol()
    far = Structure(
        atomic_numbers=np.append(structure.atomic_numbers, 26),
        positions=np.vstack([structure.positions, [50.0, 0.0, 0.0]]),
        cell=structure.cell,
        pbc=structure.pbc,
    )
    descriptors = functions().evaluate(far)
    assert descriptors.values[-1].abs().max() == 0
    assert derivatives(descriptors)[-1].abs().max() == 0
    torch.testing.assert_close(descriptors.values[:-1], functions().evaluate(structure).values, rtol=1e-12, atol=1e-14)


def test_tensors_evaluate_a_large_structure_in_pieces_of_equal_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def by_tensors() -> tuple[torch.Tensor, ...]:
        pairs = neighbor_list(ethanol(), SPEC.cutoff)
        return TensorFunctions(SPEC, torch.float64, CPU).evaluate(ethanol().atomic_numbers, pairs)

    whole = by_tensors()
    monkeypatch.setattr(symmetry_tensors, "CHUNK_BYTES", 200_000)
    for piece, expected in zip(by_tensors(), whole, strict=True):
        torch.testing.assert_close(piece, expected, rtol=1e-12, atol=1e-14)


def test_single_precision_agrees_with_double() -> None:
    single, double = functions(dtype=torch.float32).evaluate(ethanol()), functions().evaluate(ethanol())
    torch.testing.assert_close(single.values.double(), double.values, rtol=1e-4, atol=2e-6)
    torch.testing.assert_close(derivatives(single).double(), derivatives(double), rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("kind", [CompiledFunctions, TensorFunctions])
def test_benzene_gives_no_subnormal_number(kind: type) -> None:
    structure, spec = from_ase(molecule("C6H6")), spec_of(SymmetryConfig())
    evaluator = kind(spec, torch.float32, *([CPU] if kind is TensorFunctions else []))
    for array in evaluator.evaluate(structure.atomic_numbers, neighbor_list(structure, spec.cutoff)):
        assert array.abs()[array != 0].min() >= torch.finfo(torch.float32).tiny


def test_evaluation_is_repeated_bit_for_bit() -> None:
    evaluator = functions(dtype=torch.float32)
    first = evaluator.evaluate(ethanol())
    evaluator.evaluate(from_ase(bulk("Cu")))
    again = evaluator.evaluate(ethanol())
    assert torch.equal(first.values, again.values)
    assert torch.equal(first.radial, again.radial)
    assert torch.equal(first.angular, again.angular)


def test_the_default_functions_tell_niobium_from_molybdenum() -> None:
    structure = ethanol()
    niobium, molybdenum = (
        functions().evaluate(moved(structure, structure.positions, np.where(structure.atomic_numbers == 8, z, 6)))
        for z in (41, 42)
    )
    assert (niobium.values - molybdenum.values).abs().max() > 0.01


def test_what_is_no_element_is_refused_by_number() -> None:
    structure = moved(ethanol(), ethanol().positions, np.full(9, 119))
    with pytest.raises(UsageError, match="Z = 119 is no element"):
        functions().evaluate(structure)


def test_the_size_of_descriptors_is_that_of_their_arrays() -> None:
    descriptors = functions().evaluate(ethanol())
    n_atoms, n_neighbors = descriptors.neighbor_index.shape
    n_derivatives = len(SPEC.radial) * n_neighbors + len(SPEC.angular) * 3 * n_neighbors
    numbers = n_atoms * (
        SPEC.n_functions + n_derivatives + 3 * n_neighbors + n_neighbors + n_neighbors + 3 * n_neighbors
    )
    assert descriptors.n_bytes == 8 * numbers


def test_the_reverse_of_a_pair_is_the_opposite_vector_and_its_reverse_the_pair() -> None:
    atoms = molecule("CH3CH2OH") + Atoms("CH", [[4.5, 0.0, 0.0], [90.0, 0.0, 0.0]])
    atoms.rattle(0.05, seed=3)
    descriptors = functions().evaluate(from_ase(atoms))
    reverse = descriptors.reverse.flatten()
    vectors = (descriptors.units * descriptors.distances[:, None]).flatten()
    assert torch.equal(reverse[reverse], torch.arange(len(reverse)))
    assert torch.equal(reverse == torch.arange(len(reverse)), vectors == 0)
    torch.testing.assert_close(vectors[reverse], -vectors, rtol=0, atol=1e-14)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_agrees_with_the_cpu() -> None:
    there = SymmetryFunctions(SPEC, torch.float64, torch.device("cuda")).evaluate(ethanol())
    here = functions().evaluate(ethanol())
    torch.testing.assert_close(there.values.cpu(), here.values, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(derivatives(there).cpu(), derivatives(here), rtol=1e-10, atol=1e-11)
