"""Speed of the learner's parts on this machine."""
