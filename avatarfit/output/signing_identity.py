"""Who signs: the user's own certificate and key, or a local one that is made at first use.

The local one is an ECDSA key on P-256 with a certificate that a local authority signed, as the C2PA specification 2.1
(section 14.5, X.509 certificates) wants it; the authority's own key is thrown away, so nothing else can be signed with
it. It says only that the file came from this computer, which nobody else knows: for more, bring your own.
"""

from __future__ import annotations

import datetime
import os
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avatarfit.contracts import InputError

if TYPE_CHECKING:
    from cryptography import x509

_ORGANISATION = "avatarfit, self-made certificate"
_YEARS = 20
_CHAIN, _KEY = "chain.pem", "key.pem"
_LARGEST_PEM = 1_000_000


@dataclass(frozen=True)
class Identity:
    """A certificate chain and its key.

    Attributes:
        chain_pem: the signing certificate first, then those above it.
        key_pem: PKCS #8.
        algorithm: C2PA's name of the signature: es256, es384, es512, ps256 or ed25519.
        name: who, for people.
    """

    chain_pem: bytes
    key_pem: bytes
    algorithm: str
    name: str


def signing_folder() -> Path:
    """Where the local certificate lies: avatarfit/signing in $XDG_CONFIG_HOME, or in ~/.config."""
    named = os.environ.get("XDG_CONFIG_HOME", "")
    # The XDG base directory specification: a relative path is to be ignored.
    base = Path(named) if named and Path(named).is_absolute() else Path.home() / ".config"
    return base / "avatarfit" / "signing"


def given_identity(certificate: Path | None, key: Path | None) -> Identity:
    """The user's certificate and key, PEM files; the local ones where neither is given.

    Raises:
        InputError: only one came, a file cannot be read or is no such PEM, the key has a password, is of a kind that
            C2PA has no signature for, or is another certificate's, or the certificate is not valid today.
    """
    if certificate is None and key is None:
        return local_identity()
    if certificate is None or key is None:
        came, lacking = ("--sign-cert", "--sign-key") if key is None else ("--sign-key", "--sign-cert")
        raise InputError(f"{came} came without {lacking}", "both, or none of them", f"add {lacking}")
    return _checked(_read_pem(certificate, "--sign-cert"), _read_pem(key, "--sign-key"), certificate, key)


def local_identity() -> Identity:
    """The certificate of this user on this computer, made at first use; only the user may read its key.

    Raises:
        InputError: the folder for it cannot be written, or what lies there is damaged or no longer valid.
    """
    folder = signing_folder()
    if not folder.is_dir():
        _make(folder)
    chain, key = folder / _CHAIN, folder / _KEY
    return _checked(_read_pem(chain, "the local certificate"), _read_pem(key, "the local key"), chain, key)


def local_chain_pem() -> bytes:
    """The local certificates, to know them again; empty where none has been made."""
    try:
        return (signing_folder() / _CHAIN).read_bytes()
    except OSError:
        return b""


def authorities(chain_pem: bytes) -> list[str]:
    """PEM of those certificates of a chain that may sign others.

    Raises:
        ValueError: not PEM certificates.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    found = []
    for certificate in x509.load_pem_x509_certificates(chain_pem):
        try:
            constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        except x509.ExtensionNotFound:
            continue
        if constraints.ca:
            found.append(certificate.public_bytes(Encoding.PEM).decode())
    return found


def serial_number(chain_pem: bytes) -> str:
    """The signing certificate's serial number in decimal, as C2PA readers give it; empty for an empty chain."""
    from cryptography import x509

    return str(x509.load_pem_x509_certificates(chain_pem)[0].serial_number) if chain_pem else ""


def _read_pem(path: Path, what: str) -> bytes:
    wanted = "a PEM file"
    try:
        if path.stat().st_size > _LARGEST_PEM:
            raise InputError(f"{what} {path} is {path.stat().st_size} bytes long", wanted, "give another file")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{what} {path} cannot be read ({error.strerror})", wanted, "check the name") from error


def _checked(chain_pem: bytes, key_pem: bytes, chain_path: Path, key_path: Path) -> Identity:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
        load_pem_private_key,
    )

    try:
        leaf = x509.load_pem_x509_certificates(chain_pem)[0]
    except ValueError as error:
        raise InputError(
            f"{chain_path} holds no certificate in PEM", "a file that begins with the signing certificate",
            "give the chain as -----BEGIN CERTIFICATE-----",
        ) from error  # fmt: skip
    try:
        key = load_pem_private_key(key_pem, None)
    except TypeError as error:
        raise InputError(
            f"the key {key_path} has a password", "a key without one",
            "take it off into a file that only you can read: openssl pkey -in KEY -out PLAIN",
        ) from error  # fmt: skip
    except Exception as error:  # noqa: BLE001 (the library has its own for old and odd kinds of key)
        raise InputError(
            f"{key_path} holds no private key in PEM", "the key of the certificate", "give -----BEGIN PRIVATE KEY-----"
        ) from error

    def public(part: Any) -> bytes:
        return bytes(part.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))

    if public(key.public_key()) != public(leaf.public_key()):
        raise InputError(
            f"the key {key_path} is not that of the certificate {chain_path}", "a certificate and its own key",
            "give the two that belong together",
        )  # fmt: skip
    now = datetime.datetime.now(datetime.UTC)
    if not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:
        raise InputError(
            f"the certificate {chain_path} is valid from {leaf.not_valid_before_utc:%Y-%m-%d} to "
            f"{leaf.not_valid_after_utc:%Y-%m-%d}", "one that is valid today", "renew it, or remove a local one",
        )  # fmt: skip
    plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Identity(chain_pem, plain, _algorithm(key, key_path), _common_name(leaf))


def _algorithm(key: Any, path: Path) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(key, ec.EllipticCurvePrivateKey):
        name = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}.get(key.curve.name)
        if name is not None:
            return name
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= 2048:
        return "ps256"
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ed25519"
    raise InputError(
        f"the key {path} is of a kind that C2PA does not sign with",
        "ECDSA on P-256, P-384 or P-521, RSA from 2048 bits, or Ed25519", "give another certificate and key",
    )  # fmt: skip


def _common_name(certificate: x509.Certificate) -> str:
    from cryptography.x509.oid import NameOID

    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else certificate.subject.rfc4514_string()


def _make(folder: Path) -> None:
    """Writes the local chain and key; a folder appears whole, and that of another process that was faster is kept."""
    chain_pem, key_pem = _make_chain()
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="signing.") as place:
            made = Path(place) / "signing"
            made.mkdir(mode=0o700)
            (made / _CHAIN).write_bytes(chain_pem)
            handle = os.open(made / _KEY, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(key_pem)
            try:
                made.rename(folder)
            except OSError:
                if not folder.is_dir():
                    raise
    except OSError as error:
        raise InputError(
            f"the folder {folder} for the certificate that signs what is made cannot be written ({error.strerror})",
            "a folder of your own", "set XDG_CONFIG_HOME to one, or give --sign-cert and --sign-key",
        ) from error  # fmt: skip


def _make_chain() -> tuple[bytes, bytes]:
    """PEM of the chain (leaf, authority) and of the leaf's key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    # A random name tells computers apart without telling whose they are.
    mark = secrets.token_hex(4)
    begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    end = begin + datetime.timedelta(days=365 * _YEARS)
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

    def named(text: str) -> x509.Name:
        return x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, _ORGANISATION),
                x509.NameAttribute(NameOID.COMMON_NAME, text),
            ]
        )

    def certificate(name: str, owner: ec.EllipticCurvePrivateKey, is_authority: bool) -> bytes:
        usage = x509.KeyUsage(
            digital_signature=not is_authority, content_commitment=False, key_encipherment=False,
            data_encipherment=False, key_agreement=False, key_cert_sign=is_authority, crl_sign=is_authority,
            encipher_only=False, decipher_only=False,
        )  # fmt: skip
        builder = (
            x509.CertificateBuilder()
            .subject_name(named(name)).issuer_name(named(f"avatarfit local authority {mark}"))
            .public_key(owner.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(begin).not_valid_after(end)
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(owner.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
            )
        )  # fmt: skip
        if not is_authority:
            purposes = [ExtendedKeyUsageOID.EMAIL_PROTECTION]
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        return builder.sign(authority_key, hashes.SHA256()).public_bytes(Encoding.PEM)

    leaf = certificate(f"avatarfit local signer {mark}", key, is_authority=False)
    chain = leaf + certificate(f"avatarfit local authority {mark}", authority_key, is_authority=True)
    return chain, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
