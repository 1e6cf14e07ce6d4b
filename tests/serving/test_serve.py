"""A server's life: options, polling, reload, health, reflection, REST beside gRPC, the end."""

import json
import shutil
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from interactions.errors import UserError
from serving.options import ServerOptions
from serving.server import serve

AVAILABLE = get_model_status_pb2.ModelVersionStatus.AVAILABLE
END = get_model_status_pb2.ModelVersionStatus.END


class Asking:
    """The official stubs of one server."""

    def __init__(self, server):
        self.channel = grpc.insecure_channel(server.address)
        self.model = model_service_pb2_grpc.ModelServiceStub(self.channel)
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)

    def regress(self, x=2.0, name="m", label=None):
        request = regression_pb2.RegressionRequest()
        request.model_spec.name, request.model_spec.signature_name = name, "regress"
        if label is not None:
            request.model_spec.version_label = label
        example = request.input.example_list.examples.add()
        example.features.feature["x"].float_list.value.append(x)
        response = self.prediction.Regress(request, timeout=20)
        return response.model_spec.version.value, response.result.regressions[0].value

    def states(self, name="m"):
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = name
        response = self.model.GetModelStatus(request, timeout=10)
        return {status.version: status for status in response.model_version_status}

    def reload(self, *entries):
        request = model_management_pb2.ReloadConfigRequest()
        request.config.model_config_list.SetInParent()
        for entry in entries:
            request.config.model_config_list.config.add(model_platform="tensorflow", **entry)
        return self.model.HandleReloadConfigRequest(request, timeout=60)


def eventually(condition, seconds=30):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.fixture
def models(tmp_path, example_model):
    """A folder of model m with version 1."""
    add_version(tmp_path / "models" / "m", example_model, 1)
    return tmp_path / "models"


def add_version(base_path, saved, version):
    """Copy beside and rename, as a careful exporter does."""
    shutil.copytree(saved, base_path / f"{version}.tmp")
    (base_path / f"{version}.tmp").rename(base_path / str(version))


def start(**options):
    return serve(ServerOptions(**{"grpc_port": 0, "file_system_poll_wait_seconds": 0.1, **options}))


def config_text(models, *names, more=""):
    entries = " ".join(
        f'config {{ name: "{name}" base_path: "{models / name}" '
        f'model_platform: "tensorflow" {more} }}'
        for name in names
    )
    return f"model_config_list {{ {entries} }}"


def test_versions_swap_under_load_without_a_failed_request(models, example_model):
    with start(model_base_path=models / "m", model_name="m") as server:
        asking = Asking(server)
        stop = []

        def ask():
            seen = set()
            while not stop:
                version, value = asking.regress()
                assert value == 3.0
                seen.add(version)
            return seen

        with ThreadPoolExecutor(4) as threads:
            asked = [threads.submit(ask) for _ in range(4)]
            try:
                for version in (2, 3):
                    add_version(models / "m", example_model, version)
                    eventually(lambda version=version: asking.regress()[0] == version)
                shutil.rmtree(models / "m" / "3")
                eventually(lambda: asking.regress()[0] == 2)
            finally:
                stop.append(True)
            assert set().union(*(future.result() for future in asked)) == {1, 2, 3}


def test_a_broken_version_is_end_with_its_error(models, example_model):
    with start(model_base_path=models / "m", model_name="m") as server:
        asking = Asking(server)
        (models / "m" / "2").mkdir()
        eventually(lambda: 2 in asking.states() and asking.states()[2].state == END)
        status = asking.states()[2].status
        assert status.error_code == grpc.StatusCode.NOT_FOUND.value[0]
        assert "Could not find SavedModel .pb" in status.error_message
        assert asking.regress()[0] == 1
        shutil.copytree(example_model, models / "m" / "2", dirs_exist_ok=True)
        eventually(lambda: asking.regress()[0] == 2)


def test_reload_by_request(models, example_model):
    add_version(models / "n", example_model, 4)
    entry = {"name": "n", "base_path": str(models / "n")}
    with start(model_base_path=models / "m", model_name="m") as server:
        asking = Asking(server)
        response = asking.reload(entry)
        assert response.HasField("status")
        assert response.status.error_code == 0
        assert asking.regress(name="n") == (4, 3.0)
        with pytest.raises(grpc.RpcError) as caught:
            asking.regress()
        assert caught.value.details() == "Servable not found for request: Latest(m)"
        with pytest.raises(grpc.RpcError) as caught:
            asking.reload(entry, entry)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "multiple times" in caught.value.details()
        assert asking.regress(name="n") == (4, 3.0)
        asking.reload({**entry, "version_labels": {"stable": 4}})
        assert asking.regress(name="n", label="stable") == (4, 3.0)


def test_the_status_of_a_label_is_that_of_its_version(models, example_model):
    add_version(models / "m", example_model, 2)
    with start(model_base_path=models / "m", model_name="m") as server:
        asking = Asking(server)
        both = {
            "name": "m",
            "base_path": str(models / "m"),
            "model_version_policy": {"all": {}},
        }
        asking.reload(both)
        asking.reload({**both, "version_labels": {"old": 1}})
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name, request.model_spec.version_label = "m", "old"
        (status,) = asking.model.GetModelStatus(request, timeout=10).model_version_status
        assert (status.version, status.state) == (1, AVAILABLE)
        request.model_spec.version_label = "nope"
        with pytest.raises(grpc.RpcError) as caught:
            asking.model.GetModelStatus(request, timeout=10)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_damaged_new_version_of_a_bundle_is_not_loaded(bundle, saved_model):
    with start(bundle=bundle) as server:
        asking = Asking(server)
        shutil.copytree(saved_model, bundle.parent / "4")
        manifest = json.loads((bundle / "manifest.json").read_text())
        manifest["checksums"] |= {"recommender/4/saved_model.pb": "0" * 64}
        (bundle / "manifest.json").write_text(json.dumps(manifest))
        (bundle.parent / "4").rename(bundle / "recommender" / "4")
        eventually(lambda: 4 in asking.states("recommender"))
        eventually(lambda: asking.states("recommender")[4].state == END)
        assert "saved_model.pb is damaged" in (asking.states("recommender")[4].status.error_message)
        assert asking.states("recommender")[3].state == AVAILABLE


def test_a_config_without_a_list_is_refused(models):
    with start(model_base_path=models / "m", model_name="m") as server:
        asking = Asking(server)
        with pytest.raises(grpc.RpcError) as caught:
            asking.model.HandleReloadConfigRequest(
                model_management_pb2.ReloadConfigRequest(), timeout=10
            )
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "Only ModelConfigList is currently supported" in caught.value.details()


def test_the_config_file_is_watched(tmp_path, models, example_model):
    add_version(models / "n", example_model, 4)
    path = tmp_path / "models.config"
    path.write_text(config_text(models, "m"))
    with start(model_config_file=path, model_config_file_poll_wait_seconds=0.1) as server:
        asking = Asking(server)
        assert asking.regress() == (1, 3.0)
        path.write_text("model_config_list {")
        time.sleep(0.3)
        assert asking.regress() == (1, 3.0)
        path.write_text(config_text(models, "n"))
        eventually(lambda: 1 in asking.states() and asking.states()[1].state == END)
        assert asking.regress(name="n") == (4, 3.0)


def test_health_and_reflection(models):
    with start(
        model_base_path=models / "m",
        enable_grpc_healthcheck_service=True,
        enable_grpc_reflection=True,
    ) as server:
        channel = grpc.insecure_channel(server.address)
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", "ModelService", "PredictionService", "tensorflow.serving.ModelService"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as caught:
            health.Check(health_pb2.HealthCheckRequest(service="nope"), timeout=10)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        (answer,) = stub.ServerReflectionInfo(iter([request]), timeout=10)
        listed = {service.name for service in answer.list_services_response.service}
        assert {
            "tensorflow.serving.PredictionService",
            "tensorflow.serving.ModelService",
            "grpc.health.v1.Health",
        } <= listed


def test_without_its_flag_there_is_no_health(models):
    with start(model_base_path=models / "m") as server:
        health = health_pb2_grpc.HealthStub(grpc.insecure_channel(server.address))
        with pytest.raises(grpc.RpcError) as caught:
            health.Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_rest_and_metrics_beside_grpc(tmp_path, models):
    path = tmp_path / "monitoring.config"
    path.write_text("prometheus_config { enable: true }")
    with start(
        model_base_path=models / "m", model_name="m", rest_api_port=0, monitoring_config_file=path
    ) as server:
        Asking(server).regress()
        url = f"http://{server.rest_address}"
        with urllib.request.urlopen(f"{url}/v1/models/m", timeout=10) as answer:
            assert b'"AVAILABLE"' in answer.read()
        with urllib.request.urlopen(f"{url}/monitoring/prometheus/metrics", timeout=10) as answer:
            metrics = answer.read().decode()
        assert ':tensorflow:serving:request_count{model_name="m",status="OK"} 1' in metrics


def test_a_metadata_field_of_another_kind(models):
    with start(model_base_path=models / "m", model_name="m") as server:
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["graph"])
        request.model_spec.name = "m"
        with pytest.raises(grpc.RpcError) as caught:
            Asking(server).prediction.GetModelMetadata(request, timeout=10)
        assert "is not supported" in caught.value.details()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "Only ModelConfigList is currently supported"),
        ("model_config_list {", "is no ModelServerConfig"),
        ('model_config_list { config { name: "m" base_path: "m" } }', "absolute path"),
    ],
)
def test_a_bad_config_stops_the_start_in_one_line(tmp_path, text, why):
    path = tmp_path / "models.config"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        start(model_config_file=path)
    assert why in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_to_serve_is_said():
    with pytest.raises(UserError, match="nothing to serve"):
        serve(ServerOptions())


def test_a_taken_rest_port_frees_the_grpc_port(models):
    with start(model_base_path=models / "m", rest_api_port=0) as server:
        port = int(server.rest_address.rpartition(":")[2])
        with pytest.raises(UserError, match=str(port)):
            start(model_base_path=models / "m", rest_api_port=port)
