"""Plain frozen data. Imports nothing of gpuwarden, does nothing.

Units stand in the names: ``_bytes``, ``_s`` (seconds), ``_c``, ``_w``. Monotonic seconds are called
``at``/``since``; wall-clock seconds (Unix) carry ``wall`` in the name and are for people and for
what must survive a reboot.
"""
