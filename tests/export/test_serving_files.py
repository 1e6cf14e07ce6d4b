import re
import subprocess

import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from export.serving_files import serving_files, write_serving_files
from features.backend import tf
from serving.loading import load_model
from serving.model_config import model_entries, read_model_config

INT64, BOOL, STRING, MESSAGE = 3, 8, 9, 11


def message(name, fields, **nested):
    """A message type with `fields` {name: (number, type)}, and nested types by field name."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{name}.proto", package=f"test_{name}")
    for nested_name, nested_fields in nested.items():
        add(file.message_type.add(name=nested_name), nested_fields)
    add(file.message_type.add(name=name), fields, package=file.package)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = pool.FindMessageTypeByName(f"{file.package}.{name}")
    return message_factory.GetMessageClass(found)()


def add(target, fields, package=""):
    for field, (number, kind) in fields.items():
        one = target.field.add(name=field, number=number, label=1)
        one.type = MESSAGE if isinstance(kind, str) else kind
        if isinstance(kind, str):
            one.type_name = f".{package}.{kind}"


def entries(file):
    return model_entries(read_model_config(file))


def test_models_config_serves_the_recommender_alone(exported_bundle):
    (entry,) = entries(exported_bundle.folder / "models.config")
    assert entry.name == "recommender"
    assert str(entry.base_path) == "/models/recommender"


def test_the_other_models_are_there_to_be_uncommented(tmp_path):
    text = serving_files(max_batch=8)["models.config"]
    file = tmp_path / "models.config"
    file.write_text(re.sub(r"^  # ", "  ", text, flags=re.MULTILINE))
    assert {entry.name for entry in entries(file)} == {
        "recommender", "retrieval", "ranking",
    }  # fmt: skip


def test_batching_config_has_the_documented_fields():
    value = {"value": (1, INT64)}
    fields = {
        "max_batch_size": (1, "Value"),
        "batch_timeout_micros": (2, "Value"),
        "max_enqueued_batches": (3, "Value"),
        "num_batch_threads": (4, "Value"),
    }
    parsed = text_format.Parse(
        serving_files(max_batch=8)["batching.config"], message("Batching", fields, Value=value)
    )
    assert parsed.max_batch_size.value == 8


def test_monitoring_config_turns_prometheus_on():
    prometheus = {"enable": (1, BOOL), "path": (2, STRING)}
    fields = {"prometheus_config": (1, "Prometheus")}
    parsed = text_format.Parse(
        serving_files(max_batch=8)["monitoring.config"],
        message("Monitoring", fields, Prometheus=prometheus),
    )
    assert parsed.prometheus_config.enable
    assert parsed.prometheus_config.path.startswith("/")


def compose():
    return yaml.safe_load(serving_files(max_batch=8)["docker-compose.yml"])["services"]["serving"]


def test_compose_mounts_the_bundle_read_only_where_its_files_say_it_is(exported_bundle):
    service = compose()
    (mount,) = service["volumes"]
    assert (mount["source"], mount["read_only"]) == (".", True)
    flags = dict(flag.removeprefix("--").split("=") for flag in service["command"])
    named = [value for value in flags.values() if value.startswith("/")]
    assert len(named) == 3
    for path in named:
        assert path.startswith(f"{mount['target']}/")
        assert (exported_bundle.folder / path.removeprefix(f"{mount['target']}/")).is_file()


def test_compose_takes_the_image_of_the_tensorflow_that_wrote_the_bundle(exported_bundle):
    written_by = exported_bundle.manifest.packages["tensorflow"]
    assert f"tensorflow/serving:{written_by}}}" in compose()["image"]


def test_compose_opens_its_ports_on_this_machine_only():
    assert all(port.startswith("${TANDEM_HOST:-127.0.0.1}:") for port in compose()["ports"])


def test_the_health_check_of_compose_tells_a_server_that_answers(exported_bundle):
    from serving.options import ServerOptions
    from serving.server import serve

    command = compose()["healthcheck"]["test"]
    assert command[0] == "CMD"
    options = ServerOptions(bundle=exported_bundle.folder, grpc_port=0, rest_api_port=0)

    def healthy(port):
        words = [word.replace("8501", port) for word in command[1:]]
        return subprocess.run(words, capture_output=True, timeout=20, check=False).returncode == 0

    with serve(options) as server:
        port = server.rest_address.rpartition(":")[2]
        assert healthy(port)
    assert not healthy(port)


@pytest.mark.parametrize(
    ("model", "signatures"),
    [
        ("retrieval", {"serving_default", "embed_user", "embed_item", "similar_items"}),
        ("ranking", {"serving_default"}),
        ("recommender", {"serving_default", "recommend"}),
    ],
)
def test_warmup_covers_each_signature_at_one_and_the_largest_batch(
    exported_bundle, model, signatures
):
    from serving.apis import PredictionLog

    folder = exported_bundle.model(model)
    records = tf.data.TFRecordDataset(str(folder / "assets.extra/tf_serving_warmup_requests"))
    found = set()
    for record in records.as_numpy_iterator():
        request = PredictionLog.FromString(record).predict_log.request
        assert request.model_spec.name == model
        sizes = {tensor.tensor_shape.dim[0].size for tensor in request.inputs.values()}
        found.add((request.model_spec.signature_name, *sizes))
    assert found == {(signature, size) for signature in signatures for size in (1, 8)}
    load_model(folder, name=model, version=1).close()  # replays the records, raises where one fails


def test_a_bundle_with_scann_does_not_start_an_image_without_its_operations(tmp_path):
    stock, scann = (serving_files(max_batch=8, stock=stock) for stock in (True, False))
    images = [
        yaml.safe_load(files["docker-compose.yml"])["services"]["serving"]["image"]
        for files in (stock, scann)
    ]
    assert "tensorflow/serving:" in images[0]
    assert images[1].startswith("${TF_SERVING_IMAGE:?")
    write_serving_files(tmp_path, max_batch=8)
    (tmp_path / "batching.config").write_text("# edited")
    write_serving_files(tmp_path, max_batch=8, stock=False)
    assert (tmp_path / "docker-compose.yml").read_text() == scann["docker-compose.yml"]
    assert (tmp_path / "batching.config").read_text() == "# edited"
    (tmp_path / "docker-compose.yml").write_text("# edited")
    write_serving_files(tmp_path, max_batch=8)
    assert (tmp_path / "docker-compose.yml").read_text() == "# edited"
