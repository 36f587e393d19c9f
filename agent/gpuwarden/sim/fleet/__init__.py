"""Many simulated nodes in one process: the agent's own loop, desk and wire code on worlds in memory."""
