"""A small certificate authority on the ``cryptography`` library: P-256, short-lived, one identity a certificate."""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gpuwarden.adapters.pki.names import Credentials, replace_file, uri_of
from gpuwarden.errors import Refused, Unavailable
from gpuwarden.model.fleet import Identity, Role

ROOT_YEARS = 10
SKEW = timedelta(minutes=5)
"""How much earlier a certificate holds than it is made: clocks differ."""
REQUEST_MAX_BYTES = 8 * 1024
_PEM = serialization.Encoding.PEM
_DER = serialization.Encoding.DER
SERVING = frozenset({Role.NODE, Role.AGGREGATOR})
"""Who may show a certificate as a server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A certificate and until when it holds."""

    certificate_pem: bytes
    serial: int
    not_before_wall: float
    not_after_wall: float


SIGNING, NEXT, OLD = "signing", "next", "old"
"""Of the authorities in a folder: the one that signs; one that is to; one that did. All are trusted."""
_NAMES = {SIGNING: "authority", NEXT: "authority-next", OLD: "authority-old"}


class Paths:
    """Where an authority of a folder lies."""

    def __init__(self, folder: Path, role: str) -> None:
        self.key = folder / f"{_NAMES[role]}-key.pem"
        self.certificate = folder / f"{_NAMES[role]}.pem"


class Authority:
    """Signs for one trust domain. Its key never leaves the folder it was made in."""

    def __init__(
        self,
        key: ec.EllipticCurvePrivateKey,
        root: x509.Certificate,
        domain: str,
        others: tuple[x509.Certificate, ...] = (),
    ) -> None:
        """``others``: authorities that are trusted beside it, while one is rolled (``pki.rolling``)."""
        self._key = key
        self._root = root
        self.domain = domain
        self.root_pem = root.public_bytes(_PEM)
        self.root_der = root.public_bytes(serialization.Encoding.DER)
        self.fingerprints = tuple(
            each.fingerprint(hashes.SHA256()).hex() for each in (root, *others)
        )
        """Of every authority that is trusted, the one that signs first."""
        self.authorities_pem = b"".join(each.public_bytes(_PEM) for each in (root, *others))

    @classmethod
    def open(cls, folder: Path, domain: str, wall: float) -> "Authority":
        """The one in the folder; made when there is none. ``Unavailable`` when it cannot be read."""
        own = Paths(folder, SIGNING)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not own.key.exists() and not own.certificate.exists():
                key, root = make_root(domain, wall)
                write_root(own, key, root)
                return cls(key, root, domain)
            loaded = serialization.load_pem_private_key(own.key.read_bytes(), None)
            root = read_root(own.certificate)
            others = tuple(
                read_root(path)
                for path in (Paths(folder, role).certificate for role in (NEXT, OLD))
                if path.exists()
            )
        except (OSError, ValueError) as error:
            raise Unavailable(f"{folder}: the authority cannot be read: {error}") from error
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise Unavailable(f"{own.key}: expected an elliptic curve key")
        trusted = dict.fromkeys((root, *others))  # each once
        mine = next((each for each in trusted if each.public_key() == loaded.public_key()), None)
        if mine is None:
            raise Unavailable(
                f"{folder}: key and certificate of the authority do not belong together"
            )
        del trusted[mine]
        return cls(loaded, mine, domain or domain_of(mine.public_bytes(_DER)), tuple(trusted))

    def issue(
        self,
        request_der: bytes,
        identity: Identity,
        *,
        ttl_s: float,
        wall: float,
        names: tuple[str, ...] = (),
    ) -> Issued:
        """A certificate for the key of a request and for this identity; whatever else the request asks for
        is left out. ``Refused`` when the request is not signed by its key, or that is not P-256."""
        public = _requested_key(request_der)
        begin = datetime.fromtimestamp(wall, UTC).replace(microsecond=0)
        end = min(begin + timedelta(seconds=ttl_s), self._root.not_valid_after_utc)
        uses = [ExtendedKeyUsageOID.CLIENT_AUTH]
        others = [_name(each) for each in names]
        if identity.role in SERVING:
            uses.append(ExtendedKeyUsageOID.SERVER_AUTH)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, identity.name[:64])]))
            .issuer_name(self._root.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin - SKEW)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .add_extension(
                x509.SubjectAlternativeName(
                    [x509.UniformResourceIdentifier(uri_of(self.domain, identity)), *others]
                ),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        return Issued(
            certificate_pem=certificate.public_bytes(_PEM),
            serial=certificate.serial_number,
            not_before_wall=begin.timestamp(),
            not_after_wall=certificate.not_valid_after_utc.timestamp(),
        )

    def credentials(
        self, identity: Identity, *, ttl_s: float, wall: float, names: tuple[str, ...] = ()
    ) -> Credentials:
        """A new key and its certificate, for somebody on this very host."""
        key_pem, request_der = make_request(identity.name)
        issued = self.issue(request_der, identity, ttl_s=ttl_s, wall=wall, names=names)
        return Credentials(
            identity=identity,
            domain=self.domain,
            key_pem=key_pem,
            certificate_pem=issued.certificate_pem,
            authorities_pem=self.authorities_pem,
            not_before_wall=issued.not_before_wall,
            not_after_wall=issued.not_after_wall,
        )


def make_request(name: str) -> tuple[bytes, bytes]:
    """A new key as PEM, and a request for it as DER."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])]))
        .sign(key, hashes.SHA256())
    )
    return _key_pem(key), request.public_bytes(serialization.Encoding.DER)


def accepted(
    key_pem: bytes, certificate_pem: bytes, authorities_pem: bytes, domain: str, identity: Identity
) -> Credentials:
    """What an aggregator sent, once it is for our key, by an authority that came with it, and for us."""
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        roots = x509.load_pem_x509_certificates(authorities_pem)
        key = serialization.load_pem_private_key(key_pem, None)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound) as error:
        raise Refused(f"the certificate that was sent cannot be read: {error}") from error
    if certificate.public_key() != key.public_key():
        raise Refused("the certificate that was sent is for another key")
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if uris != [uri_of(domain, identity)]:
        raise Refused(f"the certificate that was sent is for {', '.join(uris)}")
    if not any(_has_signed(root, certificate) for root in roots):
        raise Refused("the certificate that was sent is by another authority")
    return Credentials(
        identity=identity,
        domain=domain,
        key_pem=key_pem,
        certificate_pem=certificate_pem,
        authorities_pem=authorities_pem,
        not_before_wall=(certificate.not_valid_before_utc + SKEW).timestamp(),
        not_after_wall=certificate.not_valid_after_utc.timestamp(),
    )


def domain_of(root_der: bytes) -> str:
    """The trust domain that an authority speaks for; ``Refused`` when it is none."""
    try:
        names = x509.load_der_x509_certificate(root_der).subject
        return str(names.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value)
    except (ValueError, IndexError) as error:
        raise Refused(f"not an authority of a fleet: {error}") from error


def holds(authorities_pem: bytes, root_der: bytes) -> bool:
    """Whether an authority is among others; not where they cannot be read."""
    try:
        roots = x509.load_pem_x509_certificates(authorities_pem)
    except ValueError:
        return False
    return any(root.public_bytes(_DER) == root_der for root in roots)


def pem_of(root_der: bytes) -> bytes:
    """An authority as PEM."""
    return x509.load_der_x509_certificate(root_der).public_bytes(_PEM)


def _has_signed(root: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(root)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def read_root(path: Path) -> x509.Certificate:
    """An authority's certificate; ``OSError`` and ``ValueError`` say why it cannot be read."""
    return x509.load_pem_x509_certificate(path.read_bytes())


def write_root(paths: Paths, key: ec.EllipticCurvePrivateKey, root: x509.Certificate) -> None:
    """Key first: a certificate without its key would be an authority that cannot sign."""
    replace_file(paths.key, _key_pem(key), 0o600)
    replace_file(paths.certificate, root.public_bytes(_PEM), 0o644)


def make_root(domain: str, wall: float) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """A new authority for a trust domain: its key and its own certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    begin = datetime.fromtimestamp(wall, UTC).replace(microsecond=0)
    serial = x509.random_serial_number()
    # Two authorities of one fleet bear two names: who looks for an issuer looks by name.
    called = f"gpuwarden fleet authority {serial:x}"[:40]
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, domain),
            x509.NameAttribute(NameOID.COMMON_NAME, called),
        ]
    )
    root = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(begin - SKEW)
        .not_valid_after(begin + timedelta(days=365 * ROOT_YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return key, root


def _requested_key(request_der: bytes) -> ec.EllipticCurvePublicKey:
    if len(request_der) > REQUEST_MAX_BYTES:
        raise Refused("the certificate request is too large")
    try:
        request = x509.load_der_x509_csr(request_der)
        public, is_signed = request.public_key(), request.is_signature_valid
    except (ValueError, TypeError) as error:
        raise Refused("the certificate request cannot be read") from error
    if not is_signed:
        raise Refused("the certificate request is not signed by its own key")
    if not isinstance(public, ec.EllipticCurvePublicKey) or public.curve.name != "secp256r1":
        raise Refused("the certificate request is not for a P-256 key")
    return public


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
