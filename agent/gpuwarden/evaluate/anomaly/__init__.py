"""Values unlike their past or their like. One detector a file."""
