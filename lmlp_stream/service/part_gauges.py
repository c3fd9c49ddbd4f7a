"""Errors by domain, source and element as Prometheus gauges, with a bounded number of series."""

from collections.abc import Iterable, Mapping
from math import nan

import numpy as np
from prometheus_client import CollectorRegistry, Gauge

from lmlp_stream.atoms.elements import SYMBOLS
from lmlp_stream.learning.evaluation import Errors, Parts

MAX_NAMES = 20
"""Domains, and sources, with series of their own at a time; the worst of the rest is reported as `other`."""
MAX_NAME_CHARACTERS = 64


class PartGauges:
    """The gauges of one kind of error.

    Args:
        registry: Where they are registered.
        kind: `prequential` or `retention`.
    """

    def __init__(self, registry: CollectorRegistry, kind: str) -> None:
        self._domains, self._sources, self._elements = (
            _Named(registry, kind, label) for label in ("domain", "source", "element")
        )

    def set(self, parts: Parts) -> None:
        """Set the errors of every part; a part that is no longer there loses its series."""
        self._domains.set(parts.domains)
        self._sources.set(parts.sources)
        self._elements.set({SYMBOLS[z]: errors for z, errors in parts.elements.items()})


class _Named:
    """Energy and force errors by one label; elements, of which there are few, have forces only and are not capped."""

    def __init__(self, registry: CollectorRegistry, kind: str, label: str) -> None:
        where = {"prequential": "arrivals before learning", "retention": "the hold-out"}[kind]
        self._capped = label != "element"
        self._named: list[str] = []
        self._shown: set[str] = set()
        self._force = Gauge(
            f"lmlp_{label}_{kind}_force_rmse_ev_per_angstrom",
            f"Root mean square force error on {where}, by {label}",
            [label],
            registry=registry,
        )
        self._energy = (
            Gauge(
                f"lmlp_{label}_{kind}_energy_rmse_ev_per_atom",
                f"Root mean square energy error on {where}, by {label}",
                [label],
                registry=registry,
            )
            if self._capped
            else None
        )

    def set(self, errors: Mapping[str, Errors]) -> None:
        own = {name: name[:MAX_NAME_CHARACTERS] or "unnamed" for name in errors}
        self._give_places(dict.fromkeys(own.values()))
        worst: dict[str, tuple[float, float]] = {}
        for name, found in errors.items():
            label = own[name] if own[name] in self._named else "other"
            energy, force = worst.get(label, (nan, nan))
            worst[label] = (float(np.fmax(energy, found.energy_rmse)), float(np.fmax(force, found.force_rmse)))
        for label in self._shown - worst.keys():
            self._force.remove(label)
            if self._energy:
                self._energy.remove(label)
        for label, (energy, force) in worst.items():
            self._force.labels(label).set(force)
            if self._energy:
                self._energy.labels(label).set(energy)
        self._shown = set(worst)

    def _give_places(self, labels: Iterable[str]) -> None:
        """Those that have a place keep it while they are there; then come the others in their order."""
        first = sorted(labels, key=lambda label: label not in self._named)
        self._named = first[:MAX_NAMES] if self._capped else first
