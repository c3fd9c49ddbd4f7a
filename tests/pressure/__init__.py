"""Hundreds of thousands of small labels through one learner's process: `python -m tests.pressure --labels 200000`."""
