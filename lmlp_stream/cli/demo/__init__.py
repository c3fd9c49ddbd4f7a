"""The whole product in one command: farm, learner, simulation and labeller as real processes on one machine."""
