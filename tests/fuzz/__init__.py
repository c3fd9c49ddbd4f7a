"""Hostile bytes against every decoder: `python -m tests.fuzz --decoder all --records 10000000 --seed 0 [--json]`."""
