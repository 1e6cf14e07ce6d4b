"""The metrics' page is TF Serving's, and its config file is read."""

import re

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from interactions.errors import UserError
from serving.monitoring import DEFAULT_PATH, Monitor, MonitoringConfig, read_monitoring_config


def samples(monitor):
    page = monitor.page().decode()
    families = text_string_to_metric_families(page)
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_requests_by_model_and_status():
    monitor = Monitor()
    for status in ("OK", "OK", "NOT_FOUND"):
        monitor.request_done(
            "m", method="predict", entrypoint="REST", status=status, seconds=0.0015
        )
    monitor.observe("Predict", "m", grpc.StatusCode.OK, 0.5)
    page = monitor.page().decode()
    assert ':tensorflow:serving:request_count{model_name="m",status="OK"} 3\n' in page
    assert ':tensorflow:serving:request_count{model_name="m",status="NOT_FOUND"} 1\n' in page
    assert "# TYPE :tensorflow:serving:request_count counter\n" in page
    assert "# TYPE :tensorflow:serving:request_latency histogram\n" in page
    found = samples(monitor)
    labels = ("m", "predict", "REST")
    assert found[(":tensorflow:serving:request_latency_count", *labels)] == 2
    assert found[(":tensorflow:serving:request_latency_sum", *labels)] == pytest.approx(3000)
    bucket = ":tensorflow:serving:request_latency_bucket"
    assert found[(bucket, *labels, "1102")] == 0
    assert found[(bucket, *labels, "1983.59")] == found[(bucket, *labels, "+Inf")] == 2
    assert found[(":tensorflow:serving:request_latency_count", "m", "Predict", "GRPC")] == 1


def test_page_holds_no_more_than_tf_servings_form():
    monitor = Monitor()
    monitor.observe("Predict", 'a"b\\\n', grpc.StatusCode.OK, 0.1)
    for line in monitor.page().decode().splitlines():
        assert re.fullmatch(r"# TYPE [\w:]+ (counter|gauge|histogram)|[\w:]+\{.*\} [\d.e+-]+", line)
    assert 'model_name="a\\"b\\\\\\n"' in monitor.page().decode()


def test_names_from_outside_do_not_fill_the_memory():
    monitor = Monitor()
    for number in range(1000):
        monitor.observe("Predict", f"unknown{number}", grpc.StatusCode.NOT_FOUND, 0.1)
    monitor.observe("Predict", "real", grpc.StatusCode.OK, 0.1)
    counts = {key[1]: value for key, value in samples(monitor).items() if "request_count" in key[0]}
    assert len(counts) < 200
    assert counts["real"] == 1
    assert sum(counts.values()) == 1001


def test_batches_and_the_queue():
    monitor = Monitor()
    waiting = [3]
    monitor.watch_queue(lambda: waiting[0])
    monitor.batch(rows=[1, 4], padding=3, waiting=7)
    found = samples(monitor)
    prefix = ":tensorflow:serving:batching:"
    assert found[(f"{prefix}input_batch_size_count",)] == 2
    assert found[(f"{prefix}processed_batch_size_sum",)] == 8
    assert found[(f"{prefix}padding_size_sum",)] == 3
    assert found[(":tensorflow:serving:queued_requests",)] == 3
    waiting[0] = 0
    assert samples(monitor)[(":tensorflow:serving:queued_requests",)] == 0


@pytest.mark.parametrize(
    ("text", "config"),
    [
        ("", MonitoringConfig(enable=False, path=DEFAULT_PATH)),
        ("prometheus_config { enable: true }", MonitoringConfig(enable=True, path=DEFAULT_PATH)),
        (
            'prometheus_config: { enable: true, path: "/metrics" }',
            MonitoringConfig(enable=True, path="/metrics"),
        ),
    ],
)
def test_config(tmp_path, text, config):
    path = tmp_path / "monitoring.config"
    path.write_text(text)
    assert read_monitoring_config(path) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [("nonsense { }", "nonsense"), ('prometheus_config { path: "metrics" }', "'metrics'")],
)
def test_a_bad_config_is_refused(tmp_path, text, message):
    path = tmp_path / "monitoring.config"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_monitoring_config(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_monitoring_config(tmp_path / "missing")
