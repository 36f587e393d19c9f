"""Who is told of a cordon: one backend a file."""
