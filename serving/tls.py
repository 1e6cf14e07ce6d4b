"""TLS as TF Serving's ssl config file asks for it."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from interactions.errors import UserError
from serving.text_protos import message_class, read_text_proto

_SSLConfig = message_class(
    "SSLConfig",
    {
        "server_key": "string",
        "server_cert": "string",
        "custom_ca": "string",
        "client_verify": "bool",
    },
)


@dataclass(frozen=True, repr=False)
class Tls:
    """A server's key and certificates, PEM; no `repr`, for the key must not reach a log."""

    server_key: bytes
    server_cert: bytes
    custom_ca: bytes | None
    """Who signs clients' certificates."""
    client_verify: bool
    """Whether a client must show a certificate (mutual TLS)."""

    def credentials(self) -> grpc.ServerCredentials:
        """Return what a gRPC port needs."""
        return grpc.ssl_server_credentials(
            [(self.server_key, self.server_cert)],
            root_certificates=self.custom_ca,
            require_client_auth=self.client_verify,
        )


def read_ssl_config(path: Path) -> Tls:
    """Return the TLS settings in `path`, a text-format SSLConfig with PEM texts in its fields.

    Raises UserError where the file is malformed, the key or certificate is missing, they do not
    belong together, or clients are to be verified without an authority.
    """
    config = read_text_proto(path, _SSLConfig())
    for field in ("server_key", "server_cert"):
        if not getattr(config, field):
            raise UserError(f"{path} has no {field}; give its PEM text")
    if config.client_verify and not config.custom_ca:
        raise UserError(
            f"{path} sets client_verify without custom_ca; give the authority's certificate"
        )
    tls = Tls(
        server_key=config.server_key.encode(),
        server_cert=config.server_cert.encode(),
        custom_ca=config.custom_ca.encode() or None,
        client_verify=config.client_verify,
    )
    _check(tls, path=path)
    return tls


def _check(tls: Tls, *, path: Path) -> None:
    """Refuse what gRPC would refuse later, at every handshake, without a word to the operator."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # The module reads files only; these never touch a disk.
        with _in_memory(tls.server_cert) as certificate, _in_memory(tls.server_key) as key:
            context.load_cert_chain(certificate, key, password=lambda: b"")
    except ssl.SSLError as error:
        reason = "do not match" if "MISMATCH" in str(error) else "are not a PEM pair"
        raise UserError(
            f"{path}: server_key and server_cert {reason}; give the certificate of this key"
        ) from error
    if tls.custom_ca is None:
        return
    try:
        context.load_verify_locations(cadata=tls.custom_ca.decode("ascii"))
    except (ssl.SSLError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: custom_ca is no PEM certificate; give the authority's certificate"
        ) from error


@contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """Give the path of a file in memory with `content`."""
    descriptor = os.memfd_create("tls")
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
