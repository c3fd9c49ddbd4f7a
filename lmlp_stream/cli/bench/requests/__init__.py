"""`bench requests`: labels that are asked for where the potential is unsure, against labels drawn at random."""
