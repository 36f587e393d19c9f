"""What the agent and the aggregator judge by the same code: the standard library and ddsketch only."""
