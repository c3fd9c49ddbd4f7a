"""The tensors that a manifest declares: what the weights of a snapshot must be before one of them is used."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any, Self

import torch
from safetensors import SafetensorError, deserialize
from torch import Tensor

from lmlp_stream.atoms.elements import N_ATOMIC_NUMBERS
from lmlp_stream.atoms.symmetry import SymmetrySpec
from lmlp_stream.errors import ConfigError, DamagedStoreError
from lmlp_stream.potential.ensemble import Ensemble
from lmlp_stream.potential.linear import N_DEVIATING
from lmlp_stream.wire.announcement import SnapshotManifest

MAX_BYTES = 2 * 2**30
"""Largest weights that are loaded."""
MAX_CUTOFF = 20.0
"""Largest cutoff in Å: the time of an evaluation grows with its sixth power."""

MAX_FUNCTIONS = 1024
"""Most symmetry functions; the presets have fewer than 300."""
MAX_ANGULAR_PRODUCTS = 4096
"""Most products of angular shells and angular parts: what one evaluation computes whatever is selected of it."""
MAX_ZETA = 64
"""Largest multiple of an angle: the time of an evaluation grows with it."""

MAX_HIDDEN_LAYERS = 16

DTYPES = {"float32": torch.float32, "float64": torch.float64}

_STORED_DTYPES = {"F32": torch.float32, "F64": torch.float64, "BOOL": torch.bool}
"""Names of safetensors for the dtypes that snapshots have."""


@dataclass(frozen=True, slots=True)
class DeclaredPotential:
    """The `potential` of a manifest.

    Attributes:
        members: Number of members M.
        hidden: Neurons of the hidden layers.
        dtype: Precision of networks and linear part, one of `DTYPES`.
        baseline_directions: Composition directions that the baseline learned.
        linear_features: Random features of each element in the linear part; 0: there is none.
    """

    members: int
    hidden: tuple[int, ...]
    dtype: str
    baseline_directions: int
    linear_features: int

    @classmethod
    def read(cls, tree: Mapping[str, Any]) -> Self:
        """The potential of a manifest.

        Raises:
            ValueError: A value is missing, of the wrong type or out of range.
        """
        sizes = {"linear_features": 0, **tree}
        for name in ("members", "baseline_directions", "linear_features"):
            if type(sizes.get(name)) is not int:
                raise ValueError(f"{name} = {sizes.get(name)!r} is no whole number")
        hidden = tree.get("hidden")
        if not isinstance(hidden, list) or any(type(n) is not int for n in hidden) or len(hidden) > MAX_HIDDEN_LAYERS:
            raise ValueError(f"hidden must be at most {MAX_HIDDEN_LAYERS} whole numbers")
        if tree.get("dtype") not in DTYPES:
            raise ValueError(f"dtype = {tree.get('dtype')!r} is none of {', '.join(DTYPES)}")
        declared = cls(
            sizes["members"], tuple(hidden), tree["dtype"], sizes["baseline_directions"], sizes["linear_features"]
        )
        if (
            min(declared.members, *declared.hidden, 1) < 1
            or min(declared.baseline_directions, declared.linear_features) < 0
        ):
            raise ValueError(f"{declared} has a size below 1")
        return declared

    def network(self, n_functions: int) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        """Shapes of the parameters of one element, as `potential.network.Parameters` says."""
        m = self.members
        shapes: dict[str, tuple[int, ...]] = {"shift": (m, n_functions), "scale": (m, n_functions)}
        for layer, (n_in, n_out) in enumerate(pairwise((n_functions, *self.hidden, 1))):
            shapes |= {f"weight_{layer}": (m, n_in, n_out), f"bias_{layer}": (m, 1, n_out)}
        return {name: (shape, DTYPES[self.dtype]) for name, shape in shapes.items()}

    def linear_part(self, elements: Iterable[int], n_functions: int) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        """Shapes of the arrays of the linear part, as `potential.linear.LinearPart` says."""
        if not self.linear_features:
            return {}
        shapes: dict[str, tuple[tuple[int, ...], torch.dtype]] = {"linear.share": ((), torch.float64)}
        dtype, size = DTYPES[self.dtype], self.linear_features
        for z in elements:
            shapes[f"linear.{z}.directions"] = ((n_functions, size), dtype)
            shapes |= {f"linear.{z}.{name}": ((size,), dtype) for name in ("offsets", "coefficients")}
            shapes |= {f"linear.{z}.{name}": ((n_functions,), dtype) for name in ("lowest", "highest")}
            shapes[f"linear.{z}.deviations"] = ((min(size, N_DEVIATING), self.members), dtype)
        return shapes

    def baseline_tensors(self) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        """Shapes of the arrays of the baseline."""
        return {
            "baseline.energies": ((N_ATOMIC_NUMBERS,), torch.float64),
            "baseline.given": ((N_ATOMIC_NUMBERS,), torch.bool),
            "baseline.directions": ((self.baseline_directions, N_ATOMIC_NUMBERS), torch.float64),
        }


@dataclass(frozen=True, slots=True, eq=False)
class DeclaredTensors:
    """Names, shapes and dtypes of the tensors of an ensemble.

    Attributes:
        spec: The symmetry functions.
        potential: Members, layers and precision of the networks.
        tensors: Shape and dtype by name.
    """

    spec: SymmetrySpec
    potential: DeclaredPotential
    tensors: Mapping[str, tuple[tuple[int, ...], torch.dtype]]

    @classmethod
    def by(cls, manifest: SnapshotManifest) -> Self:
        """What `symmetry`, `potential` and `elements` of a manifest declare.

        Raises:
            DamagedStoreError: They contradict themselves, or declare more than may be loaded.
        """
        try:
            spec = SymmetrySpec.from_dict(manifest.symmetry)
            potential = DeclaredPotential.read(manifest.potential)
        except (ConfigError, ValueError, OverflowError) as error:
            raise DamagedStoreError(f"the manifest of snapshot {manifest.id} declares no potential: {error}") from error
        if spec.cutoff != manifest.cutoff or not 0 < spec.cutoff <= MAX_CUTOFF:
            raise DamagedStoreError(
                f"snapshot {manifest.id} has a cutoff of {manifest.cutoff} Å and symmetry functions of {spec.cutoff} "
                f"Å; they must be equal, and at most {MAX_CUTOFF} Å"
            )
        _check_cost(spec, manifest.id)
        tensors = potential.baseline_tensors() | potential.linear_part(manifest.elements, spec.n_functions)
        for z in manifest.elements:
            tensors |= {f"element.{z}.{name}": tensor for name, tensor in potential.network(spec.n_functions).items()}
        declared = cls(spec, potential, tensors)
        if declared.n_bytes > MAX_BYTES:
            raise DamagedStoreError(
                f"snapshot {manifest.id} declares {declared.n_bytes} bytes of weights; {MAX_BYTES} are loaded at most"
            )
        return declared

    @property
    def n_bytes(self) -> int:
        """Memory of all tensors."""
        return sum(prod(shape) * dtype.itemsize for shape, dtype in self.tensors.values())

    def read(self, content: bytes, place: str) -> dict[str, Tensor]:
        """The declared tensors from a safetensors file; names, shapes and dtypes are compared before one is made.

        Raises:
            DamagedStoreError: The file is something else; the message names the first that differs.
        """
        try:
            stored = dict(deserialize(content))  # type: ignore[no-untyped-call]
        except SafetensorError as error:
            raise DamagedStoreError(f"{place} is not safetensors: {error}") from error
        self._compare({name: (tuple(view["shape"]), view["dtype"]) for name, view in stored.items()}, place)
        tensors = {name: _tensor(stored[name]["data"], *declared) for name, declared in self.tensors.items()}
        _check_finite(tensors, place)
        return tensors

    def check(self, tensors: Mapping[str, Tensor], place: str) -> None:
        """Nothing, if these are the declared tensors and every number in them is finite.

        Raises:
            DamagedStoreError: They are not; the message names the first that differs.
        """
        names = {dtype: name for name, dtype in _STORED_DTYPES.items()}
        found = {name: (tuple(t.shape), names.get(t.dtype, str(t.dtype))) for name, t in tensors.items()}
        self._compare(found, place)
        _check_finite(tensors, place)

    def _compare(self, found: Mapping[str, tuple[tuple[int, ...], str]], place: str) -> None:
        for name in sorted(self.tensors.keys() ^ found.keys()):
            what = "lacks" if name in self.tensors else "has an undeclared"
            raise DamagedStoreError(f"{place} {what} tensor {name:.80}; fetch the snapshot again")
        for name, (shape, dtype) in self.tensors.items():
            found_shape, found_dtype = found[name]
            if found_shape != shape or _STORED_DTYPES.get(found_dtype) != dtype:
                raise DamagedStoreError(
                    f"tensor {name} in {place} has shape {found_shape!s:.80} and dtype {found_dtype}; "
                    f"declared are {shape} and {dtype}"
                )

    def ensemble(self, tensors: Mapping[str, Tensor], device: torch.device) -> Ensemble:
        """The ensemble of tensors that passed `check`."""
        return Ensemble.from_state(
            self.spec,
            tensors,
            hidden=self.potential.hidden,
            members=self.potential.members,
            dtype=DTYPES[self.potential.dtype],
            device=device,
        )


def potential_of(ensemble: Ensemble) -> dict[str, Any]:
    """The `potential` of a manifest of this ensemble, as `DeclaredPotential.read` reads it."""
    return {
        "members": ensemble.members,
        "hidden": list(ensemble.hidden),
        "dtype": str(ensemble.dtype).removeprefix("torch."),
        "baseline_directions": len(ensemble.baseline.state_dict()["directions"]),
        "linear_features": ensemble.linear.n_features if ensemble.linear else 0,
    }


def _check_cost(spec: SymmetrySpec, snapshot_id: str) -> None:
    """Nothing, if an evaluation of these functions takes bounded time and memory.

    Raises:
        DamagedStoreError: It does not.
    """
    shells = {(f.eta, f.r_s) for f in spec.angular}
    parts = {(f.lambda_, f.zeta, f.xi) for f in spec.angular}
    counts = {
        "symmetry functions": (spec.n_functions, MAX_FUNCTIONS),
        "products of angular shells and parts": (len(shells) * len(parts), MAX_ANGULAR_PRODUCTS),
        "as zeta": (max((f.zeta for f in spec.angular), default=0), MAX_ZETA),
    }
    for what, (count, most) in counts.items():
        if count > most:
            raise DamagedStoreError(f"snapshot {snapshot_id} declares {count} {what}; {most} are loaded at most")


def _tensor(data: bytearray, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    if not data:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(data, dtype=dtype).reshape(shape)


def _check_finite(tensors: Mapping[str, Tensor], place: str) -> None:
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise DamagedStoreError(f"tensor {name} in {place} holds a number that is not finite")
