"""``gpuwarden debug evaluate``: cases answered one by one, by a child that can be given up.

A case is somebody's input: one that never ends, eats the memory or kills its process costs its own
answer and no other's. The child computes; the parent only waits, with a deadline.
"""

import importlib.util
import json
import os
import resource
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, BinaryIO

from gpuwarden.errors import Refused, Unsupported

DEADLINE_S = 60.0
"""Per case; a sensible one takes below 3 s, and a first one a second of imports."""
MOST_BYTES = 256 * 2**20
CHILD_MEMORY_BYTES = 6 * 2**30
"""Address space of the child: the largest case that is taken needs about 1 GiB."""
NEEDED = ("numpy", "scipy", "river", "datasketches")


def answers(stream: BinaryIO, *, deadline_s: float = DEADLINE_S) -> Iterator[str]:
    """One JSON line per case, in the order given.

    Raises Unsupported where the statistics are not installed, and Refused for input that is not
    ``{"cases": [...]}``. A mistake within a case is that case's answer.
    """
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise Unsupported(
            f"{', '.join(missing)} not installed: pip install 'gpuwarden[aggregator]'"
        )
    child: _Child | None = None
    try:
        for case in _cases(stream):
            child = child or _Child()
            line, why = child.ask(json.dumps(case), deadline_s)
            if line is None:
                child.give_up()
                child = None
                line = json.dumps({"id": _id(case), "got": None, "unsupported": why})
            yield line
    finally:
        if child is not None:
            child.give_up()


def _cases(stream: BinaryIO) -> list[Any]:
    text = stream.read(MOST_BYTES + 1)
    if len(text) > MOST_BYTES:
        raise Refused(f"the input is larger than {MOST_BYTES // 2**20} MiB")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refused(f"the input is not JSON: {error}") from error
    cases = document.get("cases") if isinstance(document, dict) else None
    if not isinstance(cases, list):
        raise Refused('expected an object {"cases": [...]}')
    return cases


def _id(case: Any) -> str | int | None:
    name = case.get("id") if isinstance(case, dict) else None
    return name if isinstance(name, str) or type(name) is int else None


class _Child:
    """One process of ``debug evaluate --worker``: a case a line in, an answer a line out."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gpuwarden", "debug", "evaluate", "--worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)

    def ask(self, line: str, deadline_s: float) -> tuple[str | None, str]:
        """The answer to one case; None and the reason where there was none in time."""
        due = time.monotonic() + deadline_s
        to_send, got = memoryview(line.encode() + b"\n"), bytearray()
        with selectors.DefaultSelector() as ready:
            ready.register(self._out, selectors.EVENT_READ)
            ready.register(self._in, selectors.EVENT_WRITE)
            while not got.endswith(b"\n"):
                left_s = due - time.monotonic()
                if left_s <= 0:
                    return None, f"no answer within {deadline_s:g} s"
                for key, _ in ready.select(left_s):
                    if key.fd == self._in:
                        try:
                            to_send = to_send[os.write(self._in, to_send[: 2**16]) :]
                        except BrokenPipeError:
                            return None, self._fate()
                        if not to_send:
                            ready.unregister(self._in)
                    elif more := os.read(self._out, 2**16):
                        got += more
                    else:
                        return None, self._fate()
        return got.decode().rstrip("\n"), ""

    def _fate(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            return f"the process that computed it ended with {self._process.wait(5)}"
        return "the process that computed it has closed its output"

    def give_up(self) -> None:
        """Ends the process, whatever it is at."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        self._process.wait(30)


def work(lines: BinaryIO, out: BinaryIO) -> None:
    """The child's life: answers each line until its input ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = CHILD_MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(hard, CHILD_MEMORY_BYTES)
    if soft == resource.RLIM_INFINITY or soft > limit:
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    from gpuwarden.evaluate.cases.table import answer

    for line in lines:
        out.write(json.dumps(answer(json.loads(line)), allow_nan=False).encode() + b"\n")
        out.flush()
