"""Joining a fleet: a token once, a name of its own, a certificate for one key; and every refusal."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from gpuwarden.adapters.pki import joining
from gpuwarden.adapters.pki.authority import Authority, accepted, make_request
from gpuwarden.adapters.pki.names import (
    AGGREGATOR_NAME,
    identity_in,
    read_credentials,
    write_credentials,
)
from gpuwarden.aggregator.join import parts_of
from gpuwarden.aggregator.store import first_broken
from gpuwarden.clock import SystemClock
from gpuwarden.commands.enroll import enroll
from gpuwarden.errors import Refused, Unavailable
from gpuwarden.model.fleet import Identity, Role
from gpuwarden.wire.v1 import fleet_pb2 as pb
from tests.aggregator.centre import Centre

WALL = SystemClock().wall()


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[Centre]:
    with Centre(tmp_path / "centre") as serving:
        yield serving


def invite(centre: Centre, node: str = "n1", ttl_s: float = 60.0) -> tuple[str, bytes]:
    join: str = centre.query().Invite(pb.InviteRequest(node=node, ttl_s=ttl_s)).join
    return parts_of(join)


def enrol(centre: Centre, folder: Path, token: str, root: bytes, node: str = "n1") -> None:
    joining.enrol(centre.door, token, root, node, folder, 10.0)


def test_an_invitation_makes_a_node_that_may_speak(centre: Centre, tmp_path: Path) -> None:
    enrol(centre, tmp_path / "n1", *invite(centre))
    own = read_credentials(tmp_path / "n1")
    assert own.identity == Identity(role=Role.NODE, name="n1")
    assert (tmp_path / "n1" / "key.pem").stat().st_mode & 0o777 == 0o600
    with centre.channel(own) as channel:
        from tests.aggregator.centre import Line

        Line(channel, "n1").next()


def test_a_token_is_good_once_and_the_second_use_alarms(centre: Centre, tmp_path: Path) -> None:
    token, root = invite(centre)
    enrol(centre, tmp_path / "a", token, root)
    with pytest.raises(Refused, match="not good for this node"):
        enrol(centre, tmp_path / "b", token, root)
    assert centre.parts.enrolment.alarms == 1
    assert not (tmp_path / "b").exists()


def test_of_two_at_once_one_gets_it(centre: Centre, tmp_path: Path) -> None:
    token, root = invite(centre)
    refused = []

    def attempt(number: int) -> None:
        try:
            enrol(centre, tmp_path / str(number), token, root)
        except Refused as error:
            refused.append(error)

    threads = [threading.Thread(target=attempt, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 3


def test_a_token_is_for_its_node_alone(centre: Centre, tmp_path: Path) -> None:
    token, root = invite(centre, "n1")
    with pytest.raises(Refused):
        enrol(centre, tmp_path / "x", token, root, "n2")
    assert centre.parts.enrolment.alarms == 1


def test_an_expired_token_is_good_for_nothing(centre: Centre, tmp_path: Path) -> None:
    token, root = invite(centre, ttl_s=1.0)
    threading.Event().wait(1.1)
    with pytest.raises(Refused):
        enrol(centre, tmp_path / "x", token, root)


@pytest.mark.parametrize("said", ["", "nothing", "0123456789abcdef.guess", "." * 300, "é.x"])
def test_guesses_are_refused_and_say_no_more(centre: Centre, tmp_path: Path, said: str) -> None:
    _, root = invite(centre)
    with pytest.raises(Refused, match=r"\Athis token is not good for this node\Z"):
        enrol(centre, tmp_path / "x", said, root)


def test_a_guesser_is_slowed_down(centre: Centre, tmp_path: Path) -> None:
    _, root = invite(centre)
    with pytest.raises(Unavailable, match="too many"):
        guess(centre, tmp_path / "x", root, 80)


def guess(centre: Centre, folder: Path, root: bytes, times: int) -> None:
    for _ in range(times):
        with suppress(Refused):
            enrol(centre, folder, "0123456789abcdef.guess", root)


def test_the_secret_is_not_in_the_store(centre: Centre) -> None:
    token, _ = invite(centre)
    secret = token.partition(".")[2].encode()
    folder = Path(str(centre.cfg.aggregator.state_dir))
    assert all(secret not in path.read_bytes() for path in folder.glob("fleet.sqlite*"))


@pytest.mark.parametrize("name", [AGGREGATOR_NAME, "a/b", "-x", "N1", "", "x" * 80, "a b"])
def test_no_node_may_be_called_so(centre: Centre, name: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        centre.query().Invite(pb.InviteRequest(node=name))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_renewal_is_for_the_name_of_the_certificate(centre: Centre, tmp_path: Path) -> None:
    folder = tmp_path / "n1"
    enrol(centre, folder, *invite(centre))
    before = read_credentials(folder)
    fresh = joining.renew(centre.address, folder, 10.0)
    assert fresh.identity == before.identity
    assert fresh.key_pem != before.key_pem
    assert read_credentials(folder) == fresh


def test_another_fleet_is_no_friend(centre: Centre, tmp_path: Path) -> None:
    other = Authority.open(tmp_path / "other", "gpuwarden", WALL)
    stranger = other.credentials(Identity(role=Role.ADMIN, name="eve"), ttl_s=60, wall=WALL)
    trusting = replace(stranger, authorities_pem=centre.parts.authority.root_pem)
    with centre.channel(trusting) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/gpuwarden.wire.v1.FleetQueryService/Status", bytes, bytes)(
            b"", timeout=5
        )
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_node_does_not_take_another_aggregator(centre: Centre, tmp_path: Path) -> None:
    token, _ = invite(centre)
    other = Authority.open(tmp_path / "other", "gpuwarden", WALL)
    with pytest.raises(Unavailable):
        joining.enrol(centre.door, token, other.root_der, "n1", tmp_path / "x", 3.0)


def test_a_certificate_that_has_run_out_opens_nothing(centre: Centre) -> None:
    old = centre.credentials(Role.ADMIN, "late", ttl_s=1.0, wall=WALL - 1000)
    with centre.channel(old) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/gpuwarden.wire.v1.FleetQueryService/Status", bytes, bytes)(
            b"", timeout=5
        )
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_every_step_is_in_the_audit_and_a_changed_line_is_named(
    centre: Centre, tmp_path: Path
) -> None:
    token, root = invite(centre)
    enrol(centre, tmp_path / "n1", token, root)
    with pytest.raises(Refused):
        enrol(centre, tmp_path / "n1", token, root)
    lines = centre.parts.store.audit_lines(0, 100)
    assert [line.what for line in lines] == ["invite", "enrol", "enrol"]
    assert first_broken(lines) is None
    for number in range(3):
        forged = [replace(e, detail="x") if i == number else e for i, e in enumerate(lines)]
        assert first_broken(forged) == number + 1
    assert first_broken([lines[0], lines[2]]) == 3
    assert first_broken([lines[1], lines[0], lines[2]]) is not None


def _request(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize(
    "request_der",
    [
        b"",
        b"\x30\x82" + b"x" * 100,
        b"x" * 10_000,
        _request(rsa.generate_private_key(public_exponent=65537, key_size=2048)),
        _request(ec.generate_private_key(ec.SECP384R1())),
        make_request("x")[1][:-4] + b"\x00\x00\x00\x00",
    ],
    ids=["empty", "garbage", "large", "rsa", "p384", "forged"],
)
def test_requests_that_are_not_signed_with_the_right_kind_of_key(
    tmp_path: Path, request_der: bytes
) -> None:
    authority = Authority.open(tmp_path, "gpuwarden", WALL)
    with pytest.raises(Refused):
        authority.issue(request_der, Identity(role=Role.NODE, name="n"), ttl_s=60, wall=WALL)


def test_a_request_cannot_ask_for_more_than_it_is_given(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path, "gpuwarden", WALL)
    key = ec.generate_private_key(ec.SECP256R1())
    wish = x509.UniformResourceIdentifier("spiffe://gpuwarden/admin/root")
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName([wish]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )
    issued = authority.issue(request, Identity(role=Role.NODE, name="n"), ttl_s=60, wall=WALL)
    certificate = x509.load_pem_x509_certificate(issued.certificate_pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [
        "spiffe://gpuwarden/node/n"
    ]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_what_was_sent_has_to_be_ours(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path / "a", "gpuwarden", WALL)
    other = Authority.open(tmp_path / "b", "gpuwarden", WALL)
    who = Identity(role=Role.NODE, name="n")
    own = authority.credentials(who, ttl_s=60, wall=WALL)
    accepted(own.key_pem, own.certificate_pem, own.authorities_pem, "gpuwarden", who)
    for key, certificate, roots, expected in (
        (make_request("n")[0], own.certificate_pem, own.authorities_pem, "another key"),
        (own.key_pem, own.certificate_pem, other.root_pem, "another authority"),
        (own.key_pem, b"", own.authorities_pem, "cannot be read"),
    ):
        with pytest.raises(Refused, match=expected):
            accepted(key, certificate, roots, "gpuwarden", who)
    with pytest.raises(Refused, match="is for spiffe"):
        accepted(
            own.key_pem,
            own.certificate_pem,
            own.authorities_pem,
            "gpuwarden",
            Identity(role=Role.NODE, name="m"),
        )


@pytest.mark.parametrize(
    "uris",
    [
        [],
        ["spiffe://gpuwarden/node/a", "spiffe://gpuwarden/admin/b"],
        ["spiffe://other/node/a"],
        ["spiffe://gpuwarden/emperor/a"],
        ["spiffe://gpuwarden/node/a/../../admin/b"],
        ["spiffe://gpuwarden/node/"],
        ["https://gpuwarden/node/a"],
    ],
)
def test_certificates_that_name_nobody(uris: list[str]) -> None:
    with pytest.raises(Refused):
        identity_in(uris, "gpuwarden")


@pytest.mark.parametrize("name", ["key.pem", "certificate.pem", "authorities.pem", "identity.json"])
def test_a_missing_file_is_named_with_its_fix(tmp_path: Path, name: str) -> None:
    authority = Authority.open(tmp_path / "a", "gpuwarden", WALL)
    own = authority.credentials(Identity(role=Role.NODE, name="n"), ttl_s=60, wall=WALL)
    write_credentials(tmp_path / "n", own)
    assert read_credentials(tmp_path / "n") == own
    (tmp_path / "n" / name).unlink()
    with pytest.raises(Unavailable, match=r"fix: gpuwarden enroll"):
        read_credentials(tmp_path / "n")


def test_a_key_that_others_may_read_is_not_used(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path / "a", "gpuwarden", WALL)
    own = authority.credentials(Identity(role=Role.NODE, name="n"), ttl_s=60, wall=WALL)
    write_credentials(tmp_path / "n", own)
    (tmp_path / "n" / "key.pem").chmod(0o644)
    with pytest.raises(Unavailable, match="others may read it"):
        read_credentials(tmp_path / "n")


@pytest.mark.parametrize(
    "join", ["", "a.b.c.d", "gpuwarden-join-1.a.b", "gpuwarden-join-1.a.b.c.d"]
)
def test_what_is_no_invitation(join: str) -> None:
    with pytest.raises(Refused, match="invite"):
        parts_of(join)


def test_the_verb_puts_the_identity_where_the_configuration_has_it(
    centre: Centre, tmp_path: Path
) -> None:
    join: str = centre.query().Invite(pb.InviteRequest(node="n1", ttl_s=60.0)).join
    (tmp_path / "agent.toml").write_text(f'[fleet]\nidentity_dir = "{tmp_path}/of-its-own"\n')
    done = CliRunner().invoke(
        enroll,
        ["--aggregator", centre.door, "--node", "n1", "-c", str(tmp_path / "agent.toml")],
        input=join,
    )
    assert done.exit_code == 0, done.output
    assert read_credentials(tmp_path / "of-its-own").identity.name == "n1"
