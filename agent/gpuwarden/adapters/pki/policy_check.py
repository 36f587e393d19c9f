"""Checks one policy's signature in a process of its own, which then ends: the agent itself would grow by 7 MiB
for good if it loaded what this needs.

    python -m gpuwarden.adapters.pki.policy_check KEY... <BUNDLE       (0: good; 1: not, and why)
"""

import subprocess
import sys
from collections.abc import Sequence

from gpuwarden import interpreter
from gpuwarden.errors import GpuwardenError, Refused, Unavailable
from gpuwarden.model.policy import Policy
from gpuwarden.wire import policy_text

CHECK_S = 20.0
GOOD, BAD = 0, 1
WHY_MAX_CHARS = 300


def checked(bundle: bytes, keys: Sequence[str]) -> Policy:
    """The policy, when a child has found one of these keys' signature good. ``Refused``: it is not;
    ``Unavailable``: it could not be checked."""
    policy_text.parts_of(bundle)  # what is no bundle costs no process
    if not keys:
        raise Refused("no public key is pinned here (fleet.policy_keys): policies are not taken")
    command = interpreter.own("-m", "gpuwarden.adapters.pki.policy_check", *keys)
    try:
        done = subprocess.run(
            command, input=bundle, capture_output=True, timeout=CHECK_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"the signature could not be checked: {error}") from error
    said = done.stdout.decode(errors="replace").strip()[:WHY_MAX_CHARS]
    if done.returncode == BAD and said:
        raise Refused(said)
    if done.returncode != GOOD:
        why = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no reason given"]
        raise Unavailable(f"the signature could not be checked: {why[0][:WHY_MAX_CHARS]}")
    return policy_text.policy_of(bundle)


def main(arguments: Sequence[str]) -> int:
    """The child."""
    from gpuwarden.adapters.pki.signing import verified

    try:
        verified(sys.stdin.buffer.read(policy_text.BUNDLE_MAX_BYTES + 1), arguments)
    except GpuwardenError as error:
        sys.stdout.write(f"{error}\n")
        return BAD
    return GOOD


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
