"""An ASE calculator that follows a learner: energies, forces, stress, and how far to trust them.

Units: energy and energy uncertainty in eV, forces and their uncertainties in eV/Å, stress in eV/Å³ (tension positive,
Voigt order xx yy zz yz xz xy).
"""

import copy
import os
import socket
import warnings
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Self

from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes

from lmlp_stream.atoms.structure import from_ase
from lmlp_stream.broker.open import open_log
from lmlp_stream.broker.topics import topic_specs
from lmlp_stream.config import Config, LogConfig, SimulateConfig, load_config
from lmlp_stream.errors import BrokerError, DamagedStoreError, UsageError
from lmlp_stream.simulate.doubt import Doubt, OnUncertain
from lmlp_stream.simulate.evaluator import Evaluator, UnknownElementError, device_of
from lmlp_stream.simulate.follower import Follower
from lmlp_stream.simulate.requests import LabelRequests
from lmlp_stream.simulate.results import EXTRAS, results_of
from lmlp_stream.store.snapshot import load
from lmlp_stream.wire.announcement import SnapshotManifest


class LmlpCalculator(Calculator):
    """Energies, forces and stress of the mean of the ensemble in a snapshot, with uncertainties.

    `LmlpCalculator(snapshot)` stays with one snapshot; `LmlpCalculator.follow(config)` takes the latest one, and newer
    ones only where it is told to: `update()`, or between the steps of a simulation with `update_between_steps(dyn)`.

    Properties besides ASE's own: `energy_uncertainty` (eV), `forces_uncertainty` (eV/Å, [A 3]) and `snapshot_id`. Both
    uncertainties are half widths of calibrated intervals: the reference value lies within ± uncertainty nine times in
    ten, on structures like those the snapshot was examined on. They come from
    `get_property(name, atoms)`, `results[name]`, or written with each frame after `annotate(atoms)`. `stress` exists
    in cells that repeat in three directions.

    Args:
        snapshot: Folder or fsspec URL of a snapshot.
        device: Where to compute: auto (a GPU where there is one), cpu, cuda or cuda:N.
        config: Thresholds, budget of label requests, and whose snapshots are trusted.
        on_uncertain: Above the thresholds: `ignore`, `request` a label, or `stop` with `UncertainError`.
        requests: Where labels are asked for.
        follower: Where newer snapshots are announced.

    Raises:
        UsageError: Labels are to be requested and there is no place to ask.
        DamagedStoreError: The snapshot is missing or damaged.
        UntrustedError: None of `config.trusted_keys` signed it.
    """

    name = "lmlp"
    implemented_properties: list[str] = ["energy", "free_energy", "forces", "stress", *EXTRAS]  # noqa: RUF012 - ASE's attribute

    def __init__(
        self,
        snapshot: str | Path | SnapshotManifest,
        *,
        device: str = "auto",
        config: SimulateConfig | None = None,
        on_uncertain: OnUncertain = "ignore",
        requests: LabelRequests | None = None,
        follower: Follower | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._device = device_of(device)
        self._config = config or SimulateConfig()
        self._doubt = Doubt(on_uncertain, requests)
        self._follower = follower
        self._connections = ExitStack()
        self._used: tuple[str, ...] = ()
        self._take(snapshot)

    @classmethod
    def follow(
        cls,
        log: Config | str | Path,
        *,
        device: str = "auto",
        on_uncertain: OnUncertain = "ignore",
        requester: str = "",
        timeout_s: float = 600.0,
    ) -> Self:
        """A calculator with the latest announced snapshot, waiting for the first one.

        Args:
            log: The configuration that the learner runs with, its TOML file, or the URL of its log (any learner there).
            device: As above.
            on_uncertain: As above.
            requester: Who asks for labels; empty: host and process.
            timeout_s: Longest wait for the first snapshot.

        Raises:
            BrokerError: The log cannot be reached, or no snapshot was announced in time.
            DamagedStoreError: The snapshot is missing or damaged.
        """
        config, name = _followed(log)
        with ExitStack() as connections:
            opened = open_log(config.log.url, client="lmlp-calculator")
            connections.callback(opened.close)
            follower = Follower(opened, config.log.snapshots, name, config.simulate.trusted_keys)
            connections.callback(follower.close)
            requests = None
            if on_uncertain == "request":
                opened.ensure(topic_specs(config.log))
                sink = connections.enter_context(closing(opened.sink()))
                requests = LabelRequests(sink, config.log.requests, config.simulate, requester or _this_process())
            calculator = cls(
                follower.wait(timeout_s),
                device=device,
                config=config.simulate,
                on_uncertain=on_uncertain,
                requests=requests,
                follower=follower,
            )
            calculator._connections = connections.pop_all()
        return calculator

    @property
    def manifest(self) -> SnapshotManifest:
        """What the snapshot in use says of itself."""
        return self._evaluator.manifest

    @property
    def snapshot_id(self) -> str:
        """Id of the snapshot in use."""
        return self.manifest.id

    @property
    def snapshots_used(self) -> tuple[str, ...]:
        """Ids of the snapshots that were in use, in order."""
        return self._used

    @property
    def n_requests(self) -> int:
        """Label requests that were sent."""
        return self._doubt.n_requests

    def update(self) -> bool:
        """Take the latest announced snapshot; whether it is another one. Results computed before are forgotten.

        Raises:
            UsageError: The calculator does not follow anything.
            BrokerError: The log cannot be reached.
            DamagedStoreError: The snapshot is missing or damaged; the one in use stays.
        """
        if self._follower is None:
            raise UsageError(
                f"this calculator stays with its snapshot {self.snapshot_id}; LmlpCalculator.follow moves on"
            )
        latest = self._follower.latest()
        if latest is None or latest.id == self.snapshot_id:
            return False
        self._take(latest)
        return True

    def update_between_steps(self, dynamics: Any, interval: int = 100) -> None:
        """Take the latest snapshot every `interval` steps of an ASE dynamics or optimizer, once the step is done.

        Attach this before anything that writes frames: the frame of a step is then of one potential. A damaged
        snapshot is passed over with a warning and the one in use stays.
        """
        dynamics.attach(self._update_after_step, interval, dynamics)

    def annotate(self, atoms: Atoms) -> None:
        """Write snapshot id and uncertainties into `atoms`, where ASE's formats keep them.

        `info`: `snapshot_id`, `energy_uncertainty` (eV), `max_forces_uncertainty` (eV/Å); `arrays`:
        `forces_uncertainty` (eV/Å, [A 3]). Extended XYZ keeps all of it, `.traj` keeps `info`, ASE's databases neither.
        """
        forces_uncertainty = self.get_property("forces_uncertainty", atoms)
        atoms.info["snapshot_id"] = self.snapshot_id
        atoms.info["energy_uncertainty"] = self.get_property("energy_uncertainty", atoms)
        atoms.info["max_forces_uncertainty"] = float(forces_uncertainty.max())
        atoms.set_array("forces_uncertainty", forces_uncertainty, float, (3,))

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Any = ("energy",),
        system_changes: Any = all_changes,
    ) -> None:
        """Evaluate the snapshot in use; fills `results` with every property.

        Raises:
            UsageError: There are no atoms.
            UnknownElementError: The snapshot does not know an element; a label is asked for first, if labels are.
            UncertainError: The uncertainty is above the thresholds and the calculator was told to stop.
            BrokerError: A label request could not be sent.
        """
        if not atoms:
            raise UsageError("the calculator was given no atoms; ask it with get_property(name, atoms)")
        super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]
        self.results = {}
        structure = from_ase(atoms)
        try:
            evaluation = self._evaluator.evaluate(structure)
        except UnknownElementError as error:
            if self._doubt.ask_for_unknown(structure, self.snapshot_id):
                raise UnknownElementError(f"{error}; the label of this structure was asked for") from None
            raise
        self._doubt.act_on(structure, evaluation, self.snapshot_id)
        self.results = results_of(evaluation, self.snapshot_id)

    def get_property(self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True) -> Any:
        """A property of `atoms`, from the last evaluation where nothing changed.

        Raises:
            PropertyNotImplementedError: The calculator does not have this property, or not without a 3-d cell.
        """
        described = self.atoms if atoms is None else atoms
        if name == "stress" and described is not None and not described.pbc.all():
            if not allow_calculation:
                return None
            raise PropertyNotImplementedError("stress needs a cell that repeats in three directions")
        return super().get_property(name, atoms, allow_calculation)  # type: ignore[no-untyped-call]

    def todict(self, skip_default: bool = True) -> dict[str, Any]:  # noqa: ARG002 - ASE's signature
        """What ASE's trajectories and databases write of a calculator."""
        return {"snapshot_id": self.snapshot_id}

    def close(self) -> None:
        """Release the connections to the log; the snapshot in use stays usable."""
        self._connections.close()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A calculator with results of its own; potential, follower and the desk for requests are shared."""
        twin = copy.copy(self)
        memo[id(self)] = twin
        twin.results = copy.deepcopy(self.results, memo)
        twin.atoms = None if self.atoms is None else self.atoms.copy()
        return twin

    def _take(self, snapshot: str | Path | SnapshotManifest) -> None:
        manifest, ensemble = load(snapshot, device=self._device, trusted_keys=self._config.trusted_keys)
        self._evaluator = Evaluator(manifest, ensemble, self._config)
        if self._used[-1:] != (manifest.id,):
            self._used = (*self._used, manifest.id)
        self.reset()  # type: ignore[no-untyped-call]

    def _update_after_step(self, dynamics: Any) -> None:
        try:
            if self.update():
                dynamics.atoms.get_forces()
        except (BrokerError, DamagedStoreError) as error:
            warnings.warn(f"{error}; the simulation goes on with snapshot {self.snapshot_id}", stacklevel=2)


def _this_process() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _followed(log: Config | str | Path) -> tuple[Config, str]:
    """The configuration to follow with, and the learner's name; empty where only the log is known."""
    if isinstance(log, Config):
        return log, log.name
    if isinstance(log, str) and log.startswith(("sqlite:", "kafka:", "memory:")):
        return Config(log=LogConfig(url=log)), ""
    config = load_config(Path(log))
    return config, config.name
