"""Health: what the devices and the host tell of themselves becomes findings that enter and leave slowly.

One rule a file. ``rules`` lists them, ``watch`` asks them about each new sample, ``dwell`` lets a fault
in and out, ``standing`` is what ``decide`` sees.
"""
