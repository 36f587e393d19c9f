"""How this program starts another of itself."""

import sys


def own(*arguments: str) -> tuple[str, ...]:
    """This very Python with these arguments. Where it imports nothing of its caller's environment, folder or home
    (``-I``, as the package's command does), neither does its child."""
    return (sys.executable, *(("-I",) if sys.flags.isolated else ()), *arguments)
