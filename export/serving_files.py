"""The files that tensorflow_model_server reads beside the models."""

from __future__ import annotations

from pathlib import Path

from export.signatures import MODELS, RECOMMENDER

MODELS_CONFIG, BATCHING_CONFIG = "models.config", "batching.config"
MONITORING_CONFIG = "monitoring.config"

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


def serving_files(*, max_batch: int) -> dict[str, str]:
    """Return the contents of the three files by name; `max_batch` is what was warmed up."""
    return {
        MODELS_CONFIG: _models_config(),
        BATCHING_CONFIG: _BATCHING.format(max_batch=max_batch),
        MONITORING_CONFIG: _MONITORING,
    }


def write_serving_files(folder: Path, *, max_batch: int) -> None:
    """Write those of the files that are missing: an operator may have changed the others."""
    for name, content in serving_files(max_batch=max_batch).items():
        file = folder / name
        if not file.exists():
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
