"""Mistakes one could make in the proof against a neighbour: each of its parts left out."""

from __future__ import annotations

from tests.mutants.mutant import NODE, POLICY, Mutant

NEIGHBOURS: tuple[Mutant, ...] = (
    Mutant(
        name="take a process' first listing for growth",
        file=f"{NODE}/neighbours.py",
        old="            watch.processes[key] = Lowest(size)\n            return 0",
        new="            watch.processes[key] = Lowest(size)\n            return size",
    ),
    Mutant(
        name="take what moved within a tenant for growth",
        file=f"{NODE}/neighbours.py",
        old="        own = min(own, rise)",
        new="        own = max(own, rise)",
    ),
    Mutant(
        name="see no break where a list was missed",
        file=f"{NODE}/neighbours.py",
        old="if watch is None or at - watch.at > LATE * self.list_every_s:",
        new="if watch is None:",
    ),
    Mutant(
        name="accuse one of two who grew",
        file=f"{POLICY}/neighbour.py",
        old="    if len(stirred) != 1 or state.late_since is None:",
        new="    if not stirred or state.late_since is None:",
    ),
    Mutant(
        name="accuse who grew after the service was late",
        file=f"{POLICY}/neighbour.py",
        old="    return growth if growth.rose_at < state.late_since <= state.since else None",
        new="    return growth",
    ),
    Mutant(
        name="accuse where nobody watched",
        file=f"{POLICY}/neighbour.py",
        old="    if growth.rose_at is None or growth.watched_since > begun:",
        new="    if growth.rose_at is None:",
    ),
)
