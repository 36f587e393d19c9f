"""Windows wait for the aggregator in a bounded memory; verdicts are told when they change."""

from gpuwarden.adapters.window_spool import WINDOW_MAX_BYTES, WindowSpool
from gpuwarden.evaluate.fast.sketch import of
from gpuwarden.model.evaluation import Cohort, Colour, Missing, Verdict, Window
from gpuwarden.wire.v1 import evaluation_pb2 as pb

RISK = Cohort(service="risk")


def window(number: int) -> Window:
    return Window(
        cohort=RISK, begin_wall=10.0 * number, length_s=10.0, counts={"requests": float(number)}
    )


def verdict(colour: Colour, at: float) -> Verdict:
    return Verdict(guardrail="late", cohort=RISK, colour=colour, since_wall=at, at_wall=at)


def numbers(spool: WindowSpool, after: int = 0) -> list[float]:
    found = []
    for number, payload in spool.take(after, 100, 1 << 20):
        message = pb.ServiceWindow.FromString(payload)
        assert message.sequence == number
        found.append(message.counts[0].value)
    return found


def test_what_is_not_acknowledged_is_taken_again() -> None:
    spool, stirred = WindowSpool(1000.0), []
    spool.stir = lambda: stirred.append(1)
    for number in range(1, 5):
        spool.put(window(number), "docker:abc", ["GPU-1"])
    assert numbers(spool) == numbers(spool) == [1, 2, 3, 4]
    second = spool.take(0, 2, 1 << 20)[-1][0]
    assert numbers(spool, after=second) == [3, 4]
    spool.acknowledge(second)
    assert numbers(spool) == [3, 4]
    assert len(stirred) == 4
    message = pb.ServiceWindow.FromString(spool.take(0, 1, 1 << 20)[0][1])
    assert (message.tenant, list(message.devices)) == ("docker:abc", ["GPU-1"])


def test_numbers_go_on_over_a_restart() -> None:
    before = WindowSpool(1000.0)
    for number in range(100):
        before.put(window(number), "", [])
    last = before.take(0, 1000, 1 << 20)[-1][0]
    after = WindowSpool(1001.0)
    after.put(window(1), "", [])
    assert after.take(0, 1, 1 << 20)[0][0] > last


def test_the_oldest_go_first_and_are_counted() -> None:
    spool = WindowSpool(0.0, bytes_max=2000)
    for number in range(200):
        spool.put(window(number), "", [])
    kept = numbers(spool)
    assert kept[-1] == 199
    assert spool.dropped == 200 - len(kept)
    assert 0 < len(kept) < 100


def test_a_window_that_fits_no_message_loses_its_largest_distribution_and_says_so() -> None:
    wide = of([10.0**exponent for exponent in range(-8, 15)])
    spool = WindowSpool(0.0)
    spool.put(
        Window(
            cohort=RISK,
            begin_wall=0,
            length_s=10,
            sketches={f"feature.f{n}": wide for n in range(40)},
        ),
        "",
        [],
    )
    payload = spool.take(0, 1, 1 << 20)[0][1]
    message = pb.ServiceWindow.FromString(payload)
    assert len(payload) <= WINDOW_MAX_BYTES
    assert len(message.sketches) + len(message.lacks) == 40
    assert message.lacks[0].why == Missing.UNREADABLE.value


def test_verdicts_are_told_whole_when_one_has_changed() -> None:
    spool = WindowSpool(0.0)
    assert spool.say([verdict(Colour.GREEN, 1.0)])
    version, told = spool.verdicts(0)
    assert len(told) == 1
    assert not spool.say([verdict(Colour.GREEN, 2.0)])
    assert spool.verdicts(version) == (version, ())
    assert spool.say([verdict(Colour.RED, 3.0)])
    later, told = spool.verdicts(version)
    assert later > version
    assert pb.GuardrailVerdict.FromString(told[0]).colour == "red"
    assert len(spool.verdicts(0)[1]) == 1  # a new stream is told again
