"""The archive: private checkpoints and public snapshots."""
