"""The errors of a client's calls."""

from __future__ import annotations

from typing import Any

import grpc

from interactions.errors import UserError

_OF_THE_REQUEST = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
    }
)
_LONGEST_DETAILS = 1100


class RequestError(UserError):
    """A request that was not answered, for a reason that the caller can mend: one line."""

    def __init__(self, text: str, *, code: grpc.StatusCode) -> None:
        super().__init__(text)
        self.code = code


class ServerFault(Exception):
    """A request that failed on the server's side, for no reason that the caller can mend."""

    def __init__(self, text: str, *, code: grpc.StatusCode) -> None:
        super().__init__(text)
        self.code = code


def explained(error: Any, *, address: str, secure: bool) -> RequestError | ServerFault:
    """Return a grpc.RpcError of a call to `address` in one line; `secure` says that it is TLS."""
    code: grpc.StatusCode = error.code()
    details = " ".join((error.details() or "").split())[:_LONGEST_DETAILS]
    if code == grpc.StatusCode.UNAVAILABLE:
        return RequestError(_unreachable(address, details, secure=secure), code=code)
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return late(address)
    if code in _OF_THE_REQUEST:
        return RequestError(f"the server at {address} refused ({code.name}): {details}", code=code)
    return ServerFault(f"the server at {address} failed ({code.name}): {details}", code=code)


def late(address: str) -> RequestError:
    """Return the error of a call to `address` whose time is over."""
    return RequestError(
        f"the server at {address} did not answer in time; "
        "give a longer timeout or ask for fewer users at once",
        code=grpc.StatusCode.DEADLINE_EXCEEDED,
    )


def _unreachable(address: str, details: str, *, secure: bool) -> str:
    if secure:
        return (
            f"no server answers at {address} over TLS ({details}); check that it speaks TLS, and "
            "the root certificate, key and name that it is asked with"
        )
    return (
        f"no server answers at {address}; start one with `tandem serve BUNDLE`, give the "
        "HOST:PORT where one runs, or its root certificate if it speaks TLS"
    )
