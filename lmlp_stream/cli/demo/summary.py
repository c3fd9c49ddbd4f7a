"""The demo in figures: what was reached, as one JSON object."""

from typing import Any

from lmlp_stream.cli.demo.progress import Progress
from lmlp_stream.cli.demo.settings import DemoSettings
from lmlp_stream.cli.report.history import energy_rmse, windows


def summarize(progress: Progress, settings: DemoSettings, *, seconds: float, interrupted: bool) -> dict[str, Any]:
    """Every figure of a run; errors in the units of their names, lists over consecutive windows of the stream."""
    history = progress.history
    energy_parts = windows(history.arrivals, len(progress.force_errors))
    return {
        "labels_published": progress.n_published,
        "labels_learned": history.labels_learned,
        "steps": history.steps,
        "elements": len(history.elements),
        "element_symbols": list(history.elements),
        "snapshots_announced": len(history.announced),
        "snapshots_withheld": len(history.snapshots) - len(history.announced),
        "snapshots_used_by_simulation": len(progress.simulation.snapshots),
        "simulation_steps": progress.simulation.steps,
        "simulation_restarts": progress.simulation.restarts,
        "requests": progress.n_requests,
        "requests_labelled": progress.n_labelled,
        "requests_learned": progress.n_requests_learned,
        "requests_held_out": progress.n_requests_held_out,
        "refused": progress.n_refused,
        "prequential_force_rmse_ev_per_angstrom": [round(error, 5) for error in progress.force_errors],
        "prequential_energy_rmse_ev_per_atom": [
            round(error, 6) for part in energy_parts if (error := energy_rmse(part)) is not None
        ],
        "seconds": round(seconds, 1),
        "interrupted": interrupted,
        "files": {
            "config": str(settings.config),
            "log": str(settings.log),
            "store": str(settings.store),
            "trajectory": str(settings.trajectory),
            "test": str(settings.test_file),
            "report": str(settings.report),
        },
    }
