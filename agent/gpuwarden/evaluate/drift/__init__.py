"""Has the data, or the error of a model, changed? One test or detector a file."""
