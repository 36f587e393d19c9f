"""Numbers in, verdicts out: pure functions over arrays, counts and mergeable sketches.

Nothing here reads the time, a file or a socket; chance comes from a seed that the caller gives. A
``ValueError`` says which argument does not fit; a value that does not exist (the relative difference
to a mean of 0) is ``None`` and never NaN. numpy, scipy, river and datasketches are loaded by the
modules that use them, so that who imports one test does not pay for all.
"""
