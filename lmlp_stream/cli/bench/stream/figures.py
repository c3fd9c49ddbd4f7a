"""What the runs say: errors, forgetting, transfer, and what each accuracy cost; medians over seeds."""

from collections.abc import Callable, Mapping, Sequence
from math import inf, isfinite, nan
from statistics import fmean, median
from typing import Any

from lmlp_stream.cli.bench.stream.arms import REFERENCE
from lmlp_stream.cli.bench.stream.errors import SquaredErrors, pooled
from lmlp_stream.cli.bench.stream.run import Moment, Run

ACCURACIES = (4.0, 2.0, 1.5, 1.25)
"""Force RMSEs over all domains that are looked for, in multiples of what the first arm has at the end."""
NEAR = 1.5
"""A domain is learned when its force RMSE is within this factor of that at the end."""
RATIOS = tuple(
    f"{kind}_{name}"
    for kind in ("ensemble", "members")
    for name in ("energy_rmse_mev_per_atom", "force_rmse_mev_per_angstrom")
)


def run_figures(run: Run, newcomers: Sequence[int]) -> dict[str, float]:
    """Figures of one run; NaN where there is none.

    Args:
        run: The run.
        newcomers: Places of the domains that bring an element.
    """
    last = run.boundaries[-1]
    whole = pooled(last.errors)
    figures: dict[str, float] = {}
    for kind in ("ensemble", "members"):
        figures |= {f"{kind}_{name}": value for name, value in whole.named(kind).items()} if whole else {}
    n_domains = len(run.boundaries)
    figures |= {
        "forgetting_first_third": _forgetting(run, range(max(1, n_domains // 3))),
        "forgetting": _forgetting(run, range(n_domains - 1)),
        "backward_transfer": _backward_transfer(run),
        "forward_transfer": _forward_transfer(run),
        "labels_until_near": _middle([_until_near(run, index, _labels) for index in range(n_domains)]),
        "steps_until_near": _middle([_until_near(run, index, _steps) for index in range(n_domains)]),
        "cpu_s_until_near": _middle([_until_near(run, index, _cpu_s) for index in range(n_domains)]),
        "labels_until_near_new_element": max([_until_near(run, index, _labels) for index in newcomers], default=nan),
        "labels": last.labels,
        "labels_learned": run.labels_learned,
        "steps": last.steps,
        "cpu_s": last.cpu_s,
        "state_mb": run.quarters[-1].state_mb,
        "peak_rss_mb": run.quarters[-1].peak_rss_mb,
        "cpu_ms_per_label_first_quarter": 1000.0 * run.quarters[0].cpu_s / max(1, run.quarters[0].labels),
        "cpu_ms_per_label_last_quarter": 1000.0 * run.quarters[-1].cpu_s / max(1, run.quarters[-1].labels),
    }
    return figures


def summary(runs: Mapping[str, Mapping[int, Run]], newcomers: Sequence[int]) -> dict[str, Any]:
    """Figures of each arm: of each seed, and their median, smallest and largest; ratios to the reference by seed."""
    arms: dict[str, Any] = {}
    references = {seed: run_figures(run, newcomers) for seed, run in runs.get(REFERENCE, {}).items()}
    for name, by_seed in runs.items():
        seeds = {seed: run_figures(run, newcomers) for seed, run in by_seed.items()}
        for seed, figures in seeds.items():
            figures |= {
                f"{ratio}_to_{REFERENCE}": _quotient(figures[ratio], references[seed][ratio])
                for ratio in RATIOS
                if seed in references and ratio in figures
            }
        arms[name] = {
            "seeds": seeds,
            **{
                key: _spread([figures.get(key, nan) for figures in seeds.values()])
                for key in next(iter(seeds.values()))
            },
        }
    return arms


def matrix(by_seed: Mapping[int, Run], value: Callable[[SquaredErrors], float]) -> list[list[float]]:
    """Median over seeds of the error on each domain (column) after each domain (row); NaN where it is not known."""
    runs = list(by_seed.values())
    n_domains = len(runs[0].boundaries)
    return [
        [_middle([_value(run.boundaries[row].errors[column], value) for run in runs]) for column in range(n_domains)]
        for row in range(n_domains)
    ]


def labels_until_near(by_seed: Mapping[int, Run]) -> list[float]:
    """Median over seeds of the labels from the first of each domain until it was learned; NaN where it is not known."""
    runs = list(by_seed.values())
    return [_middle([_until_near(run, index, _labels) for run in runs]) for index in range(len(runs[0].boundaries))]


def ended(by_seed: Mapping[int, Run]) -> float:
    """Median over seeds of the force RMSE over all domains at the end, meV/Å; NaN where it is not known."""
    return _middle([_force_rmse(pooled(run.boundaries[-1].errors)) for run in by_seed.values()])


def accuracies(run: Run, reference: float) -> list[dict[str, float]]:
    """What had been spent when the force RMSE over all domains was first seen at each accuracy; infinite where never.

    Args:
        run: The run.
        reference: Force RMSE of which `ACCURACIES` are multiples, meV/Å.
    """
    found = []
    for factor in ACCURACIES:
        accuracy = factor * reference
        first = next((m for m in run.boundaries if _force_rmse(pooled(m.errors)) <= accuracy), None)
        spent = {name: of(first) if first else inf for name, of in _SPENT.items()}
        found.append({"factor": factor, "force_rmse_mev_per_angstrom": accuracy, **spent})
    return found


def _forgetting(run: Run, domains: Sequence[int]) -> float:
    """Relative rise of the pooled force RMSE between the moments when each domain was learned and the end."""
    learned = pooled(run.boundaries[index].errors[index] for index in domains)
    ended = pooled(run.boundaries[-1].errors[index] for index in domains)
    return _quotient(ended.force_rmse, learned.force_rmse) - 1.0 if learned and ended else nan


def _backward_transfer(run: Run) -> float:
    """Mean over all domains but the last of the force RMSE at the end minus that when it was learned, meV/Å.

    Above zero, errors rose. Domains of which one of the two is not known are left out.
    """
    rises = [
        _force_rmse(run.boundaries[-1].errors[index]) - _force_rmse(moment.errors[index])
        for index, moment in enumerate(run.boundaries[:-1])
    ]
    known = [rise for rise in rises if isfinite(rise)]
    return fmean(known) if known else nan


def _forward_transfer(run: Run) -> float:
    """Median share of the forces of a domain that was explained before anything of it arrived: 1 - RMSE / RMS.

    Domains that bring an element are left out: nothing can be said of them before.
    """
    shares = [
        1.0 - _quotient(before.errors[0].force_rmse, rms)
        for before, rms in zip(run.before, run.label_force_rms, strict=True)
        if before.errors[0] is not None
    ]
    return _middle(shares)


def _until_near(run: Run, index: int, spent: Callable[[Moment], float]) -> float:
    """What was spent from the first label of a domain until its force RMSE was within `NEAR` times that at the end.

    NaN for a run that had everything from the start, and where no force was tested.
    """
    start, ended = run.before[index], run.boundaries[-1].errors[index]
    if not run.curves[index] or ended is None:
        return nan
    moments = [(moment, moment.errors[0]) for moment in (start, *run.curves[index])]
    moments += [(moment, moment.errors[index]) for moment in run.boundaries[index:]]
    near = (spent(moment) for moment, errors in moments if errors and errors.force_rmse <= NEAR * ended.force_rmse)
    return next(near, nan) - spent(start)


def _labels(moment: Moment) -> float:
    return moment.labels


def _steps(moment: Moment) -> float:
    return moment.steps


def _cpu_s(moment: Moment) -> float:
    return moment.cpu_s


_SPENT = {"labels": _labels, "steps": _steps, "cpu_s": _cpu_s}
"""What an accuracy cost, by name."""


def _force_rmse(errors: SquaredErrors | None) -> float:
    return _value(errors, lambda known: known.force_rmse)


def _quotient(value: float, reference: float) -> float:
    return value / reference if reference else nan


def _value(errors: SquaredErrors | None, value: Callable[[SquaredErrors], float]) -> float:
    return nan if errors is None else value(errors)


def _middle(values: Sequence[float]) -> float:
    known = [value for value in values if isfinite(value)]
    return median(known) if known else nan


def _spread(values: Sequence[float]) -> dict[str, float]:
    known = [value for value in values if isfinite(value)]
    return {
        "median": _middle(values),
        "min": min(known, default=nan),
        "max": max(known, default=nan),
    }
