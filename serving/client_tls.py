"""The client's side of TLS and mutual TLS: certificates by path."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from interactions.errors import UserError


@dataclass(frozen=True)
class ClientTls:
    """How a client knows a server, and shows who it is; paths of PEM files."""

    root: Path | None = None
    """Who signs the server's certificate; None trusts the authorities that gRPC comes with."""
    key: Path | None = None
    """With `certificate`, what the client shows a server that asks (mutual TLS)."""
    certificate: Path | None = None
    server_name: str | None = None
    """The name in the server's certificate, where it is not the host in the address."""

    def credentials(self) -> grpc.ChannelCredentials:
        """Return what a channel needs.

        Raises UserError for a file that cannot be read or is not PEM, a key without its
        certificate, and a pair that does not match.
        """
        if (self.key is None) != (self.certificate is None):
            given = f"key {self.key}" if self.key is not None else f"certificate {self.certificate}"
            raise UserError(f"the {given} is given alone; give the client's key and certificate")
        root, key, certificate = (
            None if path is None else _read(path)
            for path in (self.root, self.key, self.certificate)
        )
        self._check()
        return grpc.ssl_channel_credentials(root, key, certificate)

    def _check(self) -> None:
        """Refuse what gRPC would only refuse at every handshake, without saying why."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.root is not None:
            try:
                context.load_verify_locations(self.root)
            except ssl.SSLError as error:
                raise UserError(
                    f"{self.root} is no PEM certificate; give the authority's certificate"
                ) from error
        if self.key is not None and self.certificate is not None:
            try:
                context.load_cert_chain(self.certificate, self.key, password=lambda: b"")
            except ssl.SSLError as error:
                raise UserError(
                    f"{self.key} and {self.certificate} are no PEM pair; "
                    "give the client's key and the certificate made for it"
                ) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); give the path of a PEM file"
        ) from error
