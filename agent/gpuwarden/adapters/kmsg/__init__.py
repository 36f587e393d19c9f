"""The kernel log, read and not judged.

``choose`` finds the source that the configuration means: ``device`` (/dev/kmsg), ``stream`` (the simulated
driver's socket), both over ``ring``; ``textfile`` and ``journal``, which others may write. Each hands on
what passes the ``sieve``; ``follower`` reads it on a thread of its own into the ``inbox`` that the loop
drains, and ``place`` remembers how far that was.

A thread and not a descriptor of the loop: a ring of 128 KiB is overwritten in 30 ms of a flood, and a tick
may wait longer than that for a disk. It is woken by records alone and costs nothing at rest.
"""
