"""Driver faults: what a line means, how far it reaches, what to do about it, whom to tell what."""
