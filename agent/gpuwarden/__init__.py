"""gpuwarden: keeps a shared GPU host safe."""

__version__ = "0.1.0"
