"""Certificates of the fleet: who may speak as whom. Only ``names`` is loaded by a running agent."""
