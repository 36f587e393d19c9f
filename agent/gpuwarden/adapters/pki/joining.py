"""A node asks for its certificate: the first with a token, the next ones under the one it has."""

from pathlib import Path
from typing import Any

import grpc

from gpuwarden.adapters.pki.authority import accepted, domain_of, holds, make_request, pem_of
from gpuwarden.adapters.pki.names import (
    AGGREGATOR_NAME,
    Credentials,
    read_credentials,
    write_credentials,
)
from gpuwarden.errors import Refused, Unavailable
from gpuwarden.model.fleet import Identity, Role
from gpuwarden.wire.v1 import fleet_pb2 as pb
from gpuwarden.wire.v1.fleet_pb2_grpc import EnrolmentServiceStub, FleetServiceStub

OPTIONS = (
    ("grpc.ssl_target_name_override", AGGREGATOR_NAME),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
)
_ABSENT = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})


def enrol(
    address: str, token: str, root_der: bytes, node: str, folder: Path, timeout_s: float
) -> Credentials:
    """Join: the certificate lies in the folder afterwards. ``Refused`` when the token is not good."""
    domain, root_pem = domain_of(root_der), pem_of(root_der)
    key_pem, request_der = make_request(node)
    request = pb.EnrolRequest(token=token, node=node, request_der=request_der)
    with grpc.secure_channel(address, grpc.ssl_channel_credentials(root_pem), OPTIONS) as channel:
        answer = _said(EnrolmentServiceStub(channel).Enrol, request, address, timeout_s)
    identity = Identity(role=Role.NODE, name=node)
    # The authority that came with the invitation is the one that counts; others are trusted beside it, as at a
    # renewal, where the answer, which came from somebody whom it vouches for, names it too.
    fresh = accepted(key_pem, answer.certificate_pem, root_pem, domain, identity)
    if holds(answer.authorities_pem, root_der):
        fresh = accepted(key_pem, answer.certificate_pem, answer.authorities_pem, domain, identity)
    write_credentials(folder, fresh)
    return fresh


def renew(address: str, folder: Path, timeout_s: float) -> Credentials:
    """A new key and certificate under the name of the one in the folder."""
    own = read_credentials(folder)
    key_pem, request_der = make_request(own.identity.name)
    credentials = grpc.ssl_channel_credentials(
        own.authorities_pem, own.key_pem, own.certificate_pem
    )
    request = pb.RenewRequest(request_der=request_der)
    with grpc.secure_channel(address, credentials, OPTIONS) as channel:
        answer = _said(FleetServiceStub(channel).Renew, request, address, timeout_s)
    # What signs now was told by somebody whom the authorities so far vouch for.
    fresh = accepted(
        key_pem, answer.certificate_pem, answer.authorities_pem, own.domain, own.identity
    )
    write_credentials(folder, fresh)
    return fresh


def _said(call: Any, request: object, address: str, timeout_s: float) -> Any:
    try:
        return call(request, timeout=timeout_s)
    except grpc.RpcError as error:
        said = error.details() or str(error.code())
        if error.code() in _ABSENT:
            raise Unavailable(f"the aggregator at {address} does not answer: {said}") from error
        raise Refused(said) from error
