"""A CA for tests and the leaves it signs, made when they are first asked for."""

from __future__ import annotations

import datetime
import pathlib
import ssl
import threading

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


class Authority:
    def __init__(self, folder: pathlib.Path, name: str = "Upstream test CA"):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.datetime.now(datetime.timezone.utc)
        self._from, self._to = now - datetime.timedelta(hours=1), now + datetime.timedelta(days=30)
        key_id = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        self._cert = (
            self._start(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(key_id, critical=False)
            .add_extension(_usage(cert_sign=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = folder / "upstream-ca.pem"
        self.pem.write_bytes(self._cert.public_bytes(serialization.Encoding.PEM))
        self._leaves: dict[str, tuple[pathlib.Path, pathlib.Path]] = {}
        self._contexts: dict[tuple[str, tuple[str, ...]], ssl.SSLContext] = {}
        self._lock = threading.Lock()

    def leaf(self, host: str) -> tuple[pathlib.Path, pathlib.Path]:
        """The certificate and key files for `host`."""
        with self._lock:
            if host not in self._leaves:
                self._leaves[host] = self._issue(host)
            return self._leaves[host]

    def server_context(self, alpn: tuple[str, ...]) -> ssl.SSLContext:
        """A context that answers each SNI with that host's leaf."""
        outer = self._context("localhost", alpn)

        def choose(connection: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
            connection.context = self._context(name or "localhost", alpn)

        outer.sni_callback = choose
        return outer

    def _context(self, host: str, alpn: tuple[str, ...]) -> ssl.SSLContext:
        cert, key = self.leaf(host)
        with self._lock:
            context = self._contexts.get((host, alpn))
            if context is None:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(cert, key)
                context.set_alpn_protocols(list(alpn))
                self._contexts[(host, alpn)] = context
            return context

    def _issue(self, host: str) -> tuple[pathlib.Path, pathlib.Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])])
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        cert = (
            self._start(subject, key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(issuer, critical=False)
            .add_extension(_usage(cert_sign=False), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        stem = self.folder / host.replace("*", "_")
        cert_file, key_file = stem.with_suffix(stem.suffix + ".crt"), stem.with_suffix(stem.suffix + ".key")
        cert_file.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
        key_file.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        return cert_file, key_file

    def _start(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._from)
            .not_valid_after(self._to)
        )


def _usage(cert_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=cert_sign, crl_sign=cert_sign, encipher_only=False, decipher_only=False,
    )
