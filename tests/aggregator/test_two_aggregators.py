"""Two aggregators on one PostgreSQL are one fleet: one leads, both serve, either may go."""

from __future__ import annotations

from pathlib import Path

import grpc
import psycopg
import pytest
from psycopg import sql

from gpuwarden.errors import Refused
from gpuwarden.model.fleet import Role
from gpuwarden.wire.v1 import fleet_pb2 as pb
from tests.aggregator.centre import Centre, event, incident, sample
from tests.aggregator.pairs import asked, eventually, leads, pair, permit, refusal, states

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(120)]
WELL = (pb.NODE_STATE_HEALTHY, True)
ROOMY = {"cordon": {"ratio": 1.0, "most": 50, "window_s": 3600}, "standing_ratio": 1.0}


def end_sessions(url: str, what: str) -> None:
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name = %s",
            (f"gpuwarden-{what}",),
        )


def test_one_leads_and_the_other_says_who(tmp_path: Path) -> None:
    with pair(tmp_path) as (one, two, _):
        first = one.query().Status(pb.StatusRequest())
        eventually(lambda: two.query().Status(pb.StatusRequest()).leader, "the leader is known")
        second = two.query().Status(pb.StatusRequest())
        assert (first.is_leader, second.is_leader) == (True, False)
        assert first.epoch == second.epoch > 0
        assert first.leader == second.leader == "one.example:9440"
        assert list(second.others) == ["one.example:9440"]
        eventually(lambda: one.parts.company.others(), "the first knows the second")
        assert list(one.parts.company.others().values()) == ["two.example:9440"]
        assert second.leader_unknown == ""


def test_both_show_every_node_wherever_it_is_connected(tmp_path: Path) -> None:
    with pair(tmp_path) as (one, two, _):
        here, there = one.line("n1"), two.line("n2")
        here.batch(samples=[sample()])
        there.batch(samples=[sample(degraded=["the journal cannot be written"])])
        expected = {"n1": WELL, "n2": (pb.NODE_STATE_DEGRADED, True)}
        for centre in (one, two):
            eventually(lambda c=centre: states(c) == expected, "both nodes at both")  # type: ignore[misc]
        (shown,) = one.query().Nodes(pb.NodesRequest(prefix="n2")).nodes
        assert shown.why == "the journal cannot be written"
        there.close()
        eventually(lambda: not states(one)["n2"][1], "it is known that n2 has gone")
        here.close()


def test_a_node_that_moves_takes_its_numbers_along(tmp_path: Path) -> None:
    with pair(tmp_path) as (one, two, url):
        line = one.line("n1")
        line.batch(events=[event(n, incident("i", summary=f"{n}")) for n in range(1, 4)])
        line.until_acked(3)
        moved = two.line("n1")
        moved.next()
        assert moved.events_upto == 3
        # What was sent again, because the acknowledgement was lost, has its effect once.
        moved.batch(events=[event(n, incident("i", summary=f"{n}")) for n in range(2, 7)])
        moved.until_acked(6)
        assert line.ended() is grpc.StatusCode.ABORTED
        with psycopg.connect(url) as db:
            assert db.execute("SELECT changes FROM incident").fetchone() == (6,)
            assert db.execute("SELECT count(*) FROM event").fetchone() == (6,)
        moved.batch(samples=[sample()])
        eventually(lambda: states(one) == {"n1": WELL}, "the first sees it at the second")
        moved.close()


def test_leave_is_asked_for_at_a_follower_and_given_by_the_leader(tmp_path: Path) -> None:
    with pair(tmp_path, permit=ROOMY) as (one, two, url):
        line = two.line("n2")
        asked(line, "a1")
        given = permit(line)
        assert (given.ask, given.kind, given.subject) == ("a1", "cordon", "GPU-0")
        assert 0 < given.ttl_s <= 60
        for centre in (one, two):
            assert centre.query().Status(pb.StatusRequest()).permits_held == 1
        with psycopg.connect(url) as db:
            (epoch,) = db.execute("SELECT epoch FROM permit").fetchone() or (None,)
        assert epoch == one.query().Status(pb.StatusRequest()).epoch
        # The same wish again is the same permit, wherever it is asked.
        asked(line, "a1")
        assert permit(line).id == given.id
        moved = one.line("n2")
        asked(moved, "a1")
        assert permit(moved).id == given.id
        line.close()
        moved.close()


def test_what_the_leader_refuses_is_told_at_a_follower(tmp_path: Path) -> None:
    with pair(tmp_path) as (_one, two, _):
        line = two.line("n2")
        asked(line, "a1", age_s=9999)
        said = refusal(line)
        assert (said.ask, said.budget) == ("a1", "stale")
        line.close()


def test_one_budget_for_both(tmp_path: Path) -> None:
    with pair(tmp_path) as (one, two, _):
        here, there = one.line("n1"), two.line("n2")
        here.batch(samples=[sample()])
        eventually(lambda: len(states(one)) == 2, "both nodes")
        asked(there, "a2")
        permit(there, "a2")
        asked(here, "a1")
        assert refusal(here).budget == "window"
        here.close()
        there.close()


def test_an_order_reaches_a_node_that_the_other_holds(tmp_path: Path) -> None:
    with pair(tmp_path) as (one, two, _):
        line = two.line("n2")
        line.batch(samples=[sample()])
        eventually(lambda: states(one).get("n2") == WELL, "the node")
        order = pb.OrderRequest(node="n2", verb="cordon", subject="GPU-0", reason="why", id="o1")
        call = one.query().Order.future(order, timeout=30)
        while not any(d.orders for d in line.directives):
            line.next()
        (sent,) = next(d for d in line.directives if d.orders).orders
        assert (sent.id, sent.boot_id, sent.reason, sent.by) == (
            *("o1", "boot-1", "why"),
            "somebody (admin)",
        )
        assert 0 < sent.ttl_s <= one.cfg.ask.order_s
        result = pb.OrderResult(order="o1", is_done=True, text="it is out of use")
        line.batch(events=[event(1, order=result)])
        assert call.result().text == "it is out of use"
        line.close()


@pytest.mark.parametrize("how", ["stopped", "session"])
def test_the_other_leads_when_the_leader_goes(tmp_path: Path, how: str) -> None:
    with pair(tmp_path, permit=ROOMY) as (one, two, url):
        line = two.line("n2")
        asked(line, "a1")
        first = permit(line)
        before = one.query().Status(pb.StatusRequest()).epoch
        if how == "stopped":
            one.stop()
            eventually(lambda: leads(two), "the second leads")
            after = two
        else:
            end_sessions(url, "lead")
            eventually(lambda: leads(one) != leads(two) and _epoch(two) > before, "one leads again")
            after = one if leads(one) else two
            eventually(lambda: _lost(one) == 1, "the first says that it had lost the lead")
        assert _epoch(after) > before
        # What the first gave still counts, and still holds.
        asked(line, "a1")
        assert permit(line).id == first.id
        asked(line, "a2")
        assert permit(line, "a2").id != first.id
        line.close()


def _epoch(centre: Centre) -> int:
    return int(centre.query().Status(pb.StatusRequest()).epoch)


def _lost(centre: Centre) -> int:
    counters = centre.query().Status(pb.StatusRequest()).counters
    return int(next(each.total for each in counters if each.name == "leads_lost"))


def test_case_26_whoever_believes_to_lead_under_an_older_epoch_gives_nothing(
    tmp_path: Path,
) -> None:
    with pair(tmp_path, permit=ROOMY) as (one, _, url):
        line = one.line("n1")
        line.batch(samples=[sample()])
        line.next()
        # Somebody else begins an epoch; the first has not looked yet and still believes.
        committer = one.parts.committer
        stop = one.parts.company._leadership._stop  # type: ignore[attr-defined]
        stop.set()
        with psycopg.connect(url) as db:
            db.execute("UPDATE epoch SET value=value+1")
        assert one.parts.company.lead().is_ours
        asked(line, "a1")
        eventually(lambda: committer.failures == 1, "the grant is refused")
        with psycopg.connect(url) as db:
            assert db.execute("SELECT count(*) FROM permit").fetchone() == (0,)
        assert not any(d.permits for d in line.directives)
        line.close()


def test_nobody_leads_who_cannot_reach_the_database(tmp_path: Path) -> None:
    with pair(tmp_path) as (one, two, url):
        name = url.partition("?")[0].rpartition("/")[2]
        server = url.replace(f"/{name}?", "/postgres?")
        with psycopg.connect(server, autocommit=True) as admin:
            shut = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false")
            admin.execute(shut.format(sql.Identifier(name)))
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
            )
            fleet = one.parts.fleet
            eventually(lambda: not fleet.view.is_leader, "the first lets go")
            assert "PostgreSQL" in fleet.view.leader_unknown
            said = one.query().Status(pb.StatusRequest())
            assert "the store does not answer" in said.findings[0].summary
            assert not said.HasField("incidents_open")
            line = two.line("n1")
            assert line.ended() is grpc.StatusCode.UNAVAILABLE
            again = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true")
            admin.execute(again.format(sql.Identifier(name)))
        eventually(lambda: leads(one) != leads(two), "one of them leads again")
        line = two.line("n1")
        line.batch(events=[event(1)])
        line.until_acked(1)
        line.close()


def test_an_aggregator_of_another_authority_does_not_start(tmp_path: Path) -> None:
    with pair(tmp_path) as (one, two, url):
        with two.channel(one.credentials(Role.NODE, "n1")) as channel:
            call = channel.unary_unary("/grpc.health.v1.Health/Check", bytes, bytes)
            assert call(b"", timeout=10) == b"\x08\x01"
        third = Centre(tmp_path / "three", aggregator={"store": url})
        with pytest.raises(Refused, match="copy the folder pki"):
            third.__enter__()


def test_who_does_not_know_what_others_hold_gives_nothing(tmp_path: Path) -> None:
    with pair(tmp_path, permit=ROOMY) as (one, _, url):
        line = one.line("n1")
        line.next()
        with psycopg.connect(url, autocommit=True) as db:
            db.execute("ALTER TABLE aggregator RENAME TO hidden")
            eventually(lambda: not leads(one), "the first does not trust what it sees")
            said = one.query().Status(pb.StatusRequest())
            assert "what others hold is not known: PostgreSQL" in said.leader_unknown
            asked(line, "a1")
            db.execute("ALTER TABLE hidden RENAME TO aggregator")
        eventually(lambda: leads(one), "it leads again")
        asked(line, "a1")
        assert permit(line).ask == "a1"
        line.close()
