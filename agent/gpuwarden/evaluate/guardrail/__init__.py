"""Is a red line crossed? One guardrail a file; those that the agent judges itself are in ``fast``."""
