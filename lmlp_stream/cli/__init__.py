"""The verbs of `lmlp-stream`; the composition root."""
