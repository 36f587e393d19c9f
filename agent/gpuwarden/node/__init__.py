"""The node: observe, decide, act, journal. Read ``loop`` first."""
