"""The error that a request is answered with."""

from __future__ import annotations

import grpc

_LONGEST_TEXT = 1024
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class ServingError(Exception):
    """A request or a load that failed, with its gRPC status code and TF Serving's words."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code

    @property
    def number(self) -> int:
        """The status code's number, which TensorFlow and gRPC share."""
        return self.code.value[0]

    @property
    def wire_text(self) -> str:
        """The text as it is sent: cut where TF Serving cuts it."""
        text = str(self)
        return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}...TRUNCATED"


def code_of(number: int) -> grpc.StatusCode:
    """Return the gRPC status code of a TensorFlow error's number."""
    return _CODES.get(number, grpc.StatusCode.UNKNOWN)


def invalid_argument(text: str) -> ServingError:
    """Return the error of a request that can never be answered."""
    return ServingError(grpc.StatusCode.INVALID_ARGUMENT, text)


def not_found(text: str) -> ServingError:
    """Return the error of a model or version that is not there."""
    return ServingError(grpc.StatusCode.NOT_FOUND, text)


def failed_precondition(text: str) -> ServingError:
    """Return the error of a request that another model version might answer."""
    return ServingError(grpc.StatusCode.FAILED_PRECONDITION, text)


def unimplemented(text: str) -> ServingError:
    """Return the error of something that this server never does."""
    return ServingError(grpc.StatusCode.UNIMPLEMENTED, text)


def deadline_exceeded() -> ServingError:
    """Return the error of a request whose time was over before its answer."""
    return ServingError(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
