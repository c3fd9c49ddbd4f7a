"""The workshop: geometry, elements and symmetry functions; pure functions."""
