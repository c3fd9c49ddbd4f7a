"""The conductor: when things happen, and who is told."""
