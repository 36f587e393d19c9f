"""Quantiles of a fleet from sketches that merge. One sketch or its error a file."""
