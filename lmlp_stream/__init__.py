"""A streaming, event-driven lifelong machine-learning potential (lMLP)."""
