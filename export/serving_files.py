"""The files that tensorflow_model_server reads beside the models."""

from __future__ import annotations

from importlib.metadata import version as version_of
from pathlib import Path

from export.signatures import MODELS, RECOMMENDER

MODELS_CONFIG, BATCHING_CONFIG = "models.config", "batching.config"
MONITORING_CONFIG, COMPOSE = "monitoring.config", "docker-compose.yml"

_MODEL = """\
config {{
  name: "{name}"
  base_path: "/models/{name}"
  model_platform: "tensorflow"
}}"""

_BATCHING = """\
# --enable_batching --batching_parameters_file=/models/batching.config
max_batch_size {{ value: {max_batch} }}
batch_timeout_micros {{ value: 1000 }}
max_enqueued_batches {{ value: 100 }}
"""

_MONITORING = """\
# --monitoring_config_file=/models/monitoring.config, with --rest_api_port
prometheus_config {
  enable: true
  path: "/monitoring/prometheus/metrics"
}
"""

# The image has bash and no curl: the health check speaks HTTP over bash's own sockets.
_COMPOSE = """\
# The official TF Serving of the TensorFlow that wrote these models, with this folder mounted:
#   docker compose -f BUNDLE/docker-compose.yml up --detach --wait
# gRPC on 8500, REST on 8501, metrics on 8501/monitoring/prometheus/metrics; on this machine only,
# unless TANDEM_HOST names another interface.
name: tandem
services:
  serving:
    image: {image}
    command:
      - --model_config_file=/models/{models_config}
      - --model_config_file_poll_wait_seconds=30
      - --enable_batching=true
      - --batching_parameters_file=/models/{batching_config}
      - --monitoring_config_file=/models/{monitoring_config}
    ports:
      - "${{TANDEM_HOST:-127.0.0.1}}:${{TANDEM_GRPC_PORT:-8500}}:8500"
      - "${{TANDEM_HOST:-127.0.0.1}}:${{TANDEM_REST_PORT:-8501}}:8501"
    volumes:
      - type: bind
        source: .
        target: /models
        read_only: true
    healthcheck:
      test:
        - CMD
        - bash
        - -c
        - >-
          exec 3<>/dev/tcp/127.0.0.1/8501 &&
          printf 'GET /v1/models/{recommender} HTTP/1.0\\r\\n\\r\\n' >&3 &&
          grep -q AVAILABLE <&3
      interval: 5s
      timeout: 5s
      retries: 3
      start_period: 120s
    security_opt:
      - no-new-privileges:true
    stop_grace_period: 30s
    restart: unless-stopped
"""


_STOCK_IMAGE = "${{TF_SERVING_IMAGE:-tensorflow/serving:{tensorflow}}}"
# not the official one, which would start and then refuse the models
_SCANN_IMAGE = "${TF_SERVING_IMAGE:?name an image that has the operations of ScaNN}"


def serving_files(*, max_batch: int, stock: bool = True) -> dict[str, str]:
    """Return the contents of the four files by name.

    `max_batch` is what was warmed up; `stock` says that the models need nothing but TensorFlow.
    """
    image = _STOCK_IMAGE.format(tensorflow=version_of("tensorflow")) if stock else _SCANN_IMAGE
    return {
        MODELS_CONFIG: _models_config(),
        BATCHING_CONFIG: _BATCHING.format(max_batch=max_batch),
        MONITORING_CONFIG: _MONITORING,
        COMPOSE: _COMPOSE.format(
            image=image,
            models_config=MODELS_CONFIG,
            batching_config=BATCHING_CONFIG,
            monitoring_config=MONITORING_CONFIG,
            recommender=RECOMMENDER,
        ),
    }


def write_serving_files(folder: Path, *, max_batch: int, stock: bool = True) -> None:
    """Write the files, but for those that an operator has changed. Arguments as above."""
    other = serving_files(max_batch=max_batch, stock=not stock)
    for name, content in serving_files(max_batch=max_batch, stock=stock).items():
        file = folder / name
        if not file.exists() or file.read_bytes() == other[name].encode():
            beside = file.with_name(f".{name}.partial")
            beside.write_text(content, encoding="utf-8")
            beside.replace(file)


def _models_config() -> str:
    lines = [
        "# --model_config_file=/models/models.config, the bundle mounted at /models",
        "model_config_list {",
        *_indented(_MODEL.format(name=RECOMMENDER), "  "),
    ]
    for name in MODELS:
        if name != RECOMMENDER:
            lines += _indented(_MODEL.format(name=name), "  # ")
    return "\n".join([*lines, "}"]) + "\n"


def _indented(text: str, margin: str) -> list[str]:
    return [margin + line for line in text.splitlines()]
