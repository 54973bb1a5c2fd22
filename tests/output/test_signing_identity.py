from __future__ import annotations

import datetime
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from avatarfit.contracts import InputError
from avatarfit.output.provenance import Origin, Sealer
from avatarfit.output.signing_identity import (
    authorities,
    given_identity,
    local_chain_pem,
    local_identity,
    serial_number,
    signing_folder,
)

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "A newsroom"),
                      x509.NameAttribute(NameOID.COMMON_NAME, text)])  # fmt: skip


def key_pem(key: Any, password: bytes | None = None) -> bytes:
    hidden = NoEncryption() if password is None else BestAvailableEncryption(password)
    return bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, hidden))


def certificate(
    key: Any,
    *,
    begin: datetime.datetime = NOW - DAY,
    end: datetime.datetime = NOW + DAY,
    purpose: Any = ExtendedKeyUsageOID.EMAIL_PROTECTION,
) -> bytes:
    """The chain of a leaf for `key` under an authority of its own."""
    authority_key = ec.generate_private_key(ec.SECP256R1())
    chain = b""
    for owner, is_authority, subject in ((key, False, "news desk"), (authority_key, True, "newsroom authority")):
        usage = x509.KeyUsage(not is_authority, False, False, False, False, is_authority, is_authority, False, False)
        builder = (
            x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name("newsroom authority"))
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
            builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        chain += builder.sign(authority_key, hashes.SHA256()).public_bytes(Encoding.PEM)
    return chain


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config"


@pytest.fixture
def pair(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    def make(chain: bytes, key: bytes) -> tuple[Path, Path]:
        (tmp_path / "chain.pem").write_bytes(chain)
        (tmp_path / "key.pem").write_bytes(key)
        return tmp_path / "chain.pem", tmp_path / "key.pem"

    return make


def test_the_local_key_is_made_once_and_for_the_user_alone(home: Path) -> None:
    first = local_identity()
    assert local_identity() == first
    assert signing_folder().is_relative_to(home)
    assert stat.S_IMODE((signing_folder() / "key.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE(signing_folder().stat().st_mode) == 0o700
    assert [entry.name for entry in signing_folder().parent.iterdir()] == ["signing"]
    assert first.algorithm == "es256"
    assert len(authorities(local_chain_pem())) == 1
    assert serial_number(local_chain_pem()).isdecimal()


def test_processes_that_begin_together_share_one_local_key(home: Path) -> None:
    found = []
    threads = [threading.Thread(target=lambda: found.append(local_identity())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len(set(found)) == 1


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"cannot be written.*--sign-cert"):
        local_identity()


@pytest.mark.parametrize(
    ("make", "algorithm"),
    [
        (lambda: ec.generate_private_key(ec.SECP256R1()), "es256"),
        (lambda: ec.generate_private_key(ec.SECP384R1()), "es384"),
        (lambda: ec.generate_private_key(ec.SECP521R1()), "es512"),
        (lambda: rsa.generate_private_key(65537, 2048), "ps256"),
        (ed25519.Ed25519PrivateKey.generate, "ed25519"),
    ],
)
def test_every_kind_of_key_that_c2pa_knows_signs(make: Any, algorithm: str, pair: Any) -> None:
    key = make()
    identity = given_identity(*pair(certificate(key), key_pem(key)))
    assert identity.algorithm == algorithm
    assert identity.name == "news desk"
    Sealer(Origin("drive", False), identity)  # tries it


def test_an_older_form_of_key_is_read(pair: Any) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    older = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    Sealer(Origin("drive", False), given_identity(*pair(certificate(key), older)))


def test_what_cannot_sign_is_refused(pair: Any, tmp_path: Path) -> None:
    key, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    odd = ec.generate_private_key(ec.SECP256K1())
    old = certificate(key, begin=NOW - 9 * DAY, end=NOW - DAY)
    for chain, private, said in (
        (certificate(key), key_pem(other), "is not that of the certificate"),
        (old, key_pem(key), "is valid from"),
        (certificate(key, begin=NOW + DAY, end=NOW + 2 * DAY), key_pem(key), "is valid from"),
        (b"hello", key_pem(key), "holds no certificate in PEM"),
        (b"\xff\x00", key_pem(key), "holds no certificate in PEM"),
        (b"x" * 2_000_000, key_pem(key), "2000000 bytes long"),
        (certificate(key), b"hello", "holds no private key in PEM"),
        (certificate(key), certificate(key), "holds no private key in PEM"),
        (certificate(key), key_pem(key, b"secret"), "has a password"),
        (certificate(odd), key_pem(odd), "of a kind that C2PA does not sign with"),
    ):
        with pytest.raises(InputError, match=said):
            given_identity(*pair(chain, private))
    chain_path, key_path = pair(certificate(key), key_pem(key))
    with pytest.raises(InputError, match="--sign-cert came without --sign-key"):
        given_identity(chain_path, None)
    with pytest.raises(InputError, match="--sign-key came without --sign-cert"):
        given_identity(None, key_path)
    with pytest.raises(InputError, match=r"none\.pem cannot be read"):
        given_identity(tmp_path / "none.pem", key_path)


def test_a_certificate_that_c2pa_refuses_is_refused_at_once(pair: Any) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    chain = certificate(key, purpose=ExtendedKeyUsageOID.SERVER_AUTH)
    with pytest.raises(InputError, match="news desk cannot sign content credentials"):
        Sealer(Origin("drive", False), given_identity(*pair(chain, key_pem(key))))
