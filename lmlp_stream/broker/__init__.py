"""The street: append-only logs of messages."""
