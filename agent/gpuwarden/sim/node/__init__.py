"""A node in memory: every port of the agent, on simulated time, deterministic by seed. Read ``world``."""
