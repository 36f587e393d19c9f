"""Cases in JSON answered by this package's own functions, for ``gpuwarden debug evaluate``.

``table`` names the function of each method, ``fields`` reads parameters, ``series`` makes the input.
"""
