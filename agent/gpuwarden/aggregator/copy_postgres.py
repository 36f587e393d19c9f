"""placeholder"""


def dump(url, path): ...
