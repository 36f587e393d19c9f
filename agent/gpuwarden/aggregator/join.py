"""What a node is given to join with: one line of text."""

import base64

from gpuwarden.errors import Refused

JOIN = "gpuwarden-join-1"


def invitation(token: str, secret: str, root_der: bytes) -> str:
    """A token with its secret, and the authority that the node is to trust."""
    root = base64.urlsafe_b64encode(root_der).decode().rstrip("=")
    return f"{JOIN}.{token}.{secret}.{root}"


def parts_of(join: str) -> tuple[str, bytes]:
    """The token and the authority's certificate (DER) of what ``invite`` gave; ``Refused`` when it is none."""
    words = join.strip().split(".")
    if len(words) != 4 or words[0] != JOIN:
        raise Refused("not what `gpuwarden fleet invite` prints")
    try:
        root = base64.urlsafe_b64decode(words[3] + "=" * (-len(words[3]) % 4))
    except ValueError as error:
        raise Refused("not what `gpuwarden fleet invite` prints: it is cut short") from error
    return f"{words[1]}.{words[2]}", root
