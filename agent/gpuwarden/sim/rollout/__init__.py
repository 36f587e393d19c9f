"""Rollouts of a good and of a bad version, played."""
