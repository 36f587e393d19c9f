"""The loop's wait: descriptors that come and go, signals, time."""

import os
import signal

from gpuwarden.adapters.wakeups import Wakeups


def test_time_ends_the_wait() -> None:
    wakeups = Wakeups(())
    assert wakeups.wait(0.01) is False
    wakeups.close()


def test_descriptors_may_come_and_go() -> None:
    fds: list[int] = []
    wakeups = Wakeups((lambda: fds,))
    read, write = os.pipe()
    os.write(write, b"x")
    assert wakeups.wait(0.01) is False
    fds.append(read)
    assert wakeups.wait(10) is True
    fds.clear()
    assert wakeups.wait(0.01) is False
    os.close(read)
    os.close(write)
    wakeups.close()


def test_signals_end_the_wait_and_say_what_is_wanted() -> None:
    old = {s: signal.getsignal(s) for s in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)}
    wakeups = Wakeups(())
    try:
        wakeups.catch_signals()
        os.kill(os.getpid(), signal.SIGHUP)
        assert wakeups.wait(10) is True
        assert (wakeups.wants_reload, wakeups.wants_stop) == (True, False)
        os.kill(os.getpid(), signal.SIGTERM)
        assert wakeups.wait(10) is True
        assert wakeups.wants_stop is True
    finally:
        wakeups.close()
        for number, handler in old.items():
            signal.signal(number, handler)
