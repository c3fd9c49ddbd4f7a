"""Kills the learner's real process again and again, and checks that it learned what an undisturbed one learns.

`python -m tests.chaos --log sqlite --labels 5000 --kills 50 --seed 1`
"""
