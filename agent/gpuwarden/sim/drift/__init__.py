"""``gpuwarden simulate drift``: a service whose inputs shift, and all that follows, on real parts."""
