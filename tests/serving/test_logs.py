"""Logs are JSON lines, and hold nothing of what a request held."""

import io
import json
import logging

import pytest
import structlog

from serving.logs import configure_logs


@pytest.fixture
def lines():
    """Logs of this process, for the time of a test; gives a function that returns them."""
    root = logging.getLogger()
    before = root.handlers, root.level
    stream = io.StringIO()
    configure_logs(stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers, level = before[0], before[1]
    root.setLevel(level)
    structlog.reset_defaults()


def test_both_kinds_of_loggers_write_json(lines):
    structlog.get_logger("ours").info("serving", grpc="127.0.0.1:1", rest=None)
    logging.getLogger("theirs").warning("model %s is gone", "m")
    logging.getLogger("theirs").debug("not this")
    ours, theirs = lines()
    assert (ours["event"], ours["grpc"], ours["level"]) == ("serving", "127.0.0.1:1", "info")
    assert (theirs["event"], theirs["level"]) == ("model m is gone", "warning")
    assert theirs["logger"] == "theirs"
    assert ours["timestamp"].endswith("Z")


@pytest.mark.parametrize("logger", [logging.getLogger, structlog.get_logger])
def test_an_error_is_its_type_and_place_and_never_its_text(lines, logger):
    def fails(user):
        raise KeyError(user)

    try:
        fails("user-with-a-secret")
    except KeyError:
        logger("server").exception("a request failed")
    (line,) = lines()
    assert line["event"] == "a request failed"
    assert line["error"] == "KeyError"
    assert line["where"][-1].endswith("fails")
    assert "secret" not in json.dumps(line)
