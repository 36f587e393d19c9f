"""Decides for the fleet: pure, as for the node."""
