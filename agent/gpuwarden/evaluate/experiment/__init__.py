"""Which version is better, and is the experiment sound? One test or rule a file."""
