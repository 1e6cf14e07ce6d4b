"""TLS by TF Serving's ssl config file."""

import json
import shutil

import grpc
import pytest
import trustme
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

from interactions.errors import UserError
from serving.options import ServerOptions
from serving.server import serve
from serving.tls import read_ssl_config

CA = trustme.CA()
SERVER = CA.issue_cert("localhost")
CLIENT = CA.issue_cert("client@example.org")


def pem(blob):
    return blob.bytes().decode()


KEY = pem(SERVER.private_key_pem)
CERT = pem(SERVER.cert_chain_pems[0])


def write(folder, **fields):
    values = {"server_key": KEY, "server_cert": CERT, **fields}
    path = folder / "ssl.config"
    lines = [
        f"{name}: {str(value).lower() if isinstance(value, bool) else json.dumps(value)}"
        for name, value in values.items()
        if value is not None
    ]
    path.write_text("\n".join(lines))
    return path


def status(address, credentials):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "m"
    with grpc.secure_channel(address, credentials) as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        return stub.GetModelStatus(request, timeout=5).model_version_status[0].version


@pytest.fixture
def serve_with(tmp_path, example_model):
    shutil.copytree(example_model, tmp_path / "m" / "7")

    def start(path):
        options = ServerOptions(
            model_base_path=tmp_path / "m",
            model_name="m",
            host="localhost",
            grpc_port=0,
            ssl_config_file=path,
        )
        return serve(options)

    return start


def test_tls(tmp_path, serve_with):
    with serve_with(write(tmp_path)) as server:
        trusting = grpc.ssl_channel_credentials(CA.cert_pem.bytes())
        assert status(server.address, trusting) == 7
        with pytest.raises(grpc.RpcError):
            status(server.address, grpc.ssl_channel_credentials(trustme.CA().cert_pem.bytes()))


def test_mutual_tls(tmp_path, serve_with):
    path = write(tmp_path, custom_ca=pem(CA.cert_pem), client_verify=True)
    with serve_with(path) as server:
        known = grpc.ssl_channel_credentials(
            CA.cert_pem.bytes(),
            CLIENT.private_key_pem.bytes(),
            CLIENT.cert_chain_pems[0].bytes(),
        )
        assert status(server.address, known) == 7
        with pytest.raises(grpc.RpcError):
            status(server.address, grpc.ssl_channel_credentials(CA.cert_pem.bytes()))


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"server_key": pem(CLIENT.private_key_pem)}, "do not match"),
        ({"server_key": "nonsense"}, "are not a PEM pair"),
        ({"server_cert": None}, "has no server_cert"),
        ({"server_key": None}, "has no server_key"),
        ({"client_verify": True}, "client_verify without custom_ca"),
        ({"custom_ca": "nonsense"}, "custom_ca is no PEM certificate"),
        ({"servre_key": "x"}, "is no SSLConfig"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(tmp_path, fields, why):
    path = write(tmp_path, **fields)
    with pytest.raises(UserError) as caught:
        read_ssl_config(path)
    assert str(path) in str(caught.value)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "PRIVATE" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="nope cannot be read"):
        read_ssl_config(tmp_path / "nope")
