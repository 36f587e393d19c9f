"""The incident of the README as a scenario: real processes, a real agent, a clock outside of it."""
