"""Driver faults played for real, one after the other: `gpuwarden simulate fault`."""
