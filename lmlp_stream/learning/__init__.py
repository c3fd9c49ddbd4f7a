"""The study: what is learned, rehearsed, examined and remembered."""
