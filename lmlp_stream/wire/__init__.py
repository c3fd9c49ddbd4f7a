"""The door: formats of messages; no I/O, never torch."""
