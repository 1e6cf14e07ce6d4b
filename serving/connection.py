"""The channel of a client and its methods, alike for grpc and grpc.aio."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serving.client_tls import ClientTls
from serving.dialogue import METHODS, Method

_OPTIONS = (
    # A name with several addresses is several servers: ask them in turn.
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # gRPC waits a second before it knocks again; the clients' retries come sooner than that.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
)


def open_channel(kind: Any, address: str, *, tls: ClientTls | None) -> Any:
    """Return a channel of `kind` (grpc or grpc.aio) to HOST:PORT; it connects when it is used.

    Raises UserError for certificates that cannot be used.
    """
    if tls is None:
        return kind.insecure_channel(address, options=_OPTIONS)
    options = _OPTIONS
    if tls.server_name is not None:
        options += (("grpc.ssl_target_name_override", tls.server_name),)
    return kind.secure_channel(address, tls.credentials(), options=options)


def stubs(channel: Any) -> Mapping[Method, Any]:
    """Return what calls each method on a channel."""
    return {
        method: channel.unary_unary(
            method.path,
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=method.response.FromString,
        )
        for method in METHODS
    }
