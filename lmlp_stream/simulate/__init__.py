"""What a simulator installs: following snapshots, predicting, asking for labels."""
