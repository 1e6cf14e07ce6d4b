"""How a server is asked to behave; imports no TensorFlow, so that a command line reads fast."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ServerOptions:
    """Everything that `serve` can be told, by the names of TF Serving's flags where it has one.

    Exactly one of `bundle`, `model_config_file` and `model_base_path` says what is served.
    """

    bundle: Path | None = None
    """A folder that `tandem export` wrote; its checksums are checked, its models.config is read
    with the base paths of the container replaced by the bundle's folders."""
    model_config_file: Path | None = None
    model_base_path: Path | None = None
    """With `model_name`, the one model that is served, in place of a config file."""
    model_name: str = "default"
    host: str = "127.0.0.1"
    grpc_port: int = 8500
    """0 takes a free one."""
    rest_api_port: int | None = None
    """None is no REST; 0 takes a free one."""
    rest_api_num_threads: int = 8
    rest_api_timeout_in_ms: int = 30_000
    rest_api_enable_cors_support: bool = False
    file_system_poll_wait_seconds: float = 1.0
    """0 or less looks only at the start and on a reload."""
    model_config_file_poll_wait_seconds: float = 0.0
    """0 reads the file once."""
    allow_version_labels_for_unavailable_models: bool = False
    max_num_load_retries: int = 5
    load_retry_interval_micros: int = 60_000_000
    enable_model_warmup: bool = True
    num_request_iterations_for_warmup: int = 1
    enable_signature_method_name_check: bool = False
    ssl_config_file: Path | None = None
    enable_grpc_healthcheck_service: bool = False
    enable_grpc_reflection: bool = False
    enable_batching: bool = False
    batching_parameters_file: Path | None = None
    monitoring_config_file: Path | None = None
    tensorflow_session_parallelism: int = 0
    """Threads within one operation; 0 lets TensorFlow choose."""
    exposure_log: Path | None = None
    """A folder for a sample of what is served, with users' ids; None keeps nothing."""
    exposure_log_share: float = 0.01
    exposure_log_places: int = 10
    max_queued_requests: int = 0
    """Requests that may wait for a worker before RESOURCE_EXHAUSTED; 0 lets the server choose."""
