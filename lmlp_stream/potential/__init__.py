"""The instrument: an ensemble of high-dimensional neural network potentials."""
