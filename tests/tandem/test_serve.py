"""The flags of `tandem serve`: TF Serving's names, either spelling, and what they become."""

from pathlib import Path

import click
import pytest

from interactions.errors import UserError
from serving.options import ServerOptions
from tandem import serve as serve_module
from tandem.serve import serve


@pytest.fixture
def parsed(monkeypatch):
    """Parse a command line into the ServerOptions that the server would get."""
    given = []
    monkeypatch.setattr(
        serve_module, "_run", lambda options, *, drain_seconds: given.append(options)
    )

    def parse(*arguments):
        serve.main(list(arguments), standalone_mode=False)
        return given.pop()

    return parse


def test_a_bundle_alone_has_both_doors_at_tf_servings_ports(parsed):
    options = parsed("runs/mine/bundle")
    assert options == ServerOptions(
        bundle=Path("runs/mine/bundle"), grpc_port=8500, rest_api_port=8501,
        rest_api_num_threads=32, max_queued_requests=128,
    )  # fmt: skip
    assert options.host == "127.0.0.1"


@pytest.mark.parametrize("dash", ["_", "-"])
def test_every_flag_of_tf_serving_is_taken_with_either_spelling(parsed, dash):
    def flag(name, value):
        return f"--{name.replace('_', dash)}={value}"

    wanted = {
        "model_config_file": Path("models.config"),
        "rest_api_num_threads": 4,
        "rest_api_timeout_in_ms": 700,
        "rest_api_enable_cors_support": True,
        "file_system_poll_wait_seconds": -1.0,
        "model_config_file_poll_wait_seconds": 3.5,
        "allow_version_labels_for_unavailable_models": True,
        "max_num_load_retries": 2,
        "load_retry_interval_micros": -5,
        "enable_model_warmup": False,
        "num_request_iterations_for_warmup": 2,
        "enable_signature_method_name_check": True,
        "ssl_config_file": Path("ssl.config"),
        "enable_grpc_healthcheck_service": True,
        "enable_batching": True,
        "batching_parameters_file": Path("batching_parameters.config"),
        "monitoring_config_file": Path("monitoring.config"),
        "tensorflow_session_parallelism": 3,
    }
    options = parsed(
        flag("port", 9000), flag("rest_api_port", 9001),
        *[flag(name, value) for name, value in wanted.items()],
    )  # fmt: skip
    assert {name: getattr(options, name) for name in wanted} == wanted
    assert (options.grpc_port, options.rest_api_port) == (9000, 9001)


def test_a_switch_stands_alone_and_does_not_eat_the_bundle(parsed):
    options = parsed("--enable_batching", "bundle_of_mine", "--enable-grpc-reflection")
    assert options.enable_batching and options.enable_grpc_reflection
    assert options.bundle == Path("bundle_of_mine")


def test_values_keep_their_underscores(parsed):
    options = parsed("--model_base_path=/data/my_model", "--model_name", "my_model")
    assert (options.model_base_path, options.model_name) == (Path("/data/my_model"), "my_model")


@pytest.mark.parametrize(
    ("arguments", "port"),
    [
        (["--rest_api_port=0"], None),
        (["--rest-port", "0"], 0),
        (["--rest-port", "9001"], 9001),
        (["--rest_api_port=9002"], 9002),
    ],
)
def test_zero_is_no_rest_by_tf_servings_name_and_a_free_port_by_ours(parsed, arguments, port):
    assert parsed("bundle", *arguments).rest_api_port == port


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "nothing given to serve"),
        (["bundle", "--model_config_file=models.config"], "bundle and model_config_file"),
        (["bundle", "--model_name=m"], "--model_base_path is missing"),
    ],
)
def test_what_is_served_is_said_once(parsed, arguments, says):
    with pytest.raises(UserError, match=says):
        parsed(*arguments)


@pytest.mark.parametrize(
    "arguments", [["--port=70000"], ["--enable_batching=perhaps"], ["--no_such_flag=1"]]
)
def test_impossible_flags_are_refused(parsed, arguments):
    with pytest.raises(click.ClickException):
        parsed("bundle", *arguments)
