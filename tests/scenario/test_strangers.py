"""What somebody with a container on the host can say about himself, and whom it must not hurt."""

from __future__ import annotations

from gpuwarden.adapters.docker_describe import owner_key
from gpuwarden.sim.scenario import always, at, expect
from gpuwarden.sim.world import World
from tests.scenario.stage import habit, hog, node, serve


def red(world: World) -> None:
    service = world.services.services["serve"]
    service.forced = service.health.RED


def test_who_claims_a_protected_service_s_name_does_not_take_its_objective_away() -> None:
    """The offender ignores TERM: only while somebody protected is harmed does it go before its grace of
    30 s is over. The thief sits on another device and has been there for longer."""
    world = node()
    thief = world.container("thief", service="serve", habits=(habit(1_000, on=1),))
    world.run_for(5)
    world.began = world.clock.now()
    h = serve(world)
    later = world.container("later", service="serve", habits=(habit(1_000, on=1),))
    low = hog(world, obeys=False, grace_s=30.0)
    at(world, 1, lambda: red(world))
    expect(world, by=8, freed=low)
    always(world, until=20, untouched=[h, thief, later])


def test_who_goes_by_somebody_s_labels_does_not_have_him_stopped() -> None:
    """Three evictions under a swarm service's name hold that name; whoever bears it rightly was there."""
    world = node()
    labels = {"com.docker.swarm.service.name": "search"}
    key = owner_key(labels, "low/search", "search.1")
    innocent = world.container(
        "search.1", quota_mib=20_000, habits=(habit(4_000),), labels=labels, owner_key=key
    )
    for number in range(3):
        thief = hog(world, f"thief-{number}", grow_mib_s=20_000, labels=labels, owner_key=key)
        expect(world, by=30 * (number + 1), freed=thief)
    always(world, until=200, alive=innocent, untouched=innocent)
    again = hog(world, "thief-again", grow_mib_s=0, labels=labels, owner_key=key)
    expect(world, by=230, freed=again)
    always(world, until=300, alive=innocent, untouched=innocent)


def test_the_name_of_a_container_is_part_of_what_compose_calls_it() -> None:
    """Of a running container the name cannot be had twice: labels alone do not make its owner."""
    labels = {"com.docker.compose.project": "shop", "com.docker.compose.service": "search"}
    mine, his = owner_key(labels, "search:1", "shop-search-1"), owner_key(labels, "search:1", "x")
    assert mine != his
    assert mine == owner_key(labels, "search:2", "shop-search-1")
