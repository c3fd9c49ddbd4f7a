"""The figures of `bench corruption` as Markdown."""

from collections.abc import Mapping
from typing import Any


def markdown(figures: Mapping[str, Any]) -> str:
    """Three tables: errors of the runs, what was caught, and what became of good labels."""
    rmses = figures["force_rmse_mev_per_angstrom"]
    caught = [(kind, own["refused"], own["waiting"]) for kind, own in figures["caught"].items()]
    good = [
        ("in the clean stream", figures["clean_refused"], figures["clean_waiting"]),
        ("in the corrupted stream", figures["good_refused"], figures["good_waiting"]),
    ]
    novel = figures["new_chemistry"]
    if novel:
        good.append((f"new chemistry: {novel['element']}", novel["new_refused"], novel["new_waiting"]))
    lines = [
        f"{figures['n_train']} labels, {figures['n_corrupted']} of them wrong; {figures['n_test']} predicted.",
        "",
        "| stream | force RMSE, meV/Å | ratio |",
        "| --- | --- | --- |",
        f"| clean | {rmses['clean']:.1f} | 1 |",
        f"| clean, quarantine | {rmses['clean_guarded']:.1f} | {figures['ratio_clean_guarded']:.3f} |",
        f"| corrupted, quarantine | {rmses['guarded']:.1f} | {figures['ratio_guarded']:.3f} |",
        f"| corrupted, no quarantine | {rmses['unguarded']:.1f} | {figures['ratio_unguarded']:.3f} |",
        "",
        "| wrong labels | refused | waiting at the end |",
        "| --- | --- | --- |",
        *_shares(caught),
        "",
        "| good labels | refused | waiting at the end |",
        "| --- | --- | --- |",
        *_shares(good),
    ]
    return "\n".join(lines) + "\n"


def _shares(rows: list[tuple[str, float, float]]) -> list[str]:
    return [f"| {name} | {refused:.1%} | {waiting:.1%} |" for name, refused, waiting in rows]
