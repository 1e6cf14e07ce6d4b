"""Both forms of the client over TLS and mutual TLS."""

import asyncio
import json

import pytest
import trustme

from interactions.errors import UserError
from serving.async_client import AsyncRecommenderClient
from serving.client import ClientTls, RecommenderClient, RequestError
from serving.options import ServerOptions
from serving.server import serve

CA = trustme.CA()
SERVER = CA.issue_cert("recommender.example")
CLIENT = CA.issue_cert("client@example.org")
NAME = "recommender.example"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Paths of PEM files by what they hold."""
    folder = tmp_path_factory.mktemp("pem")
    contents = {
        "root": CA.cert_pem,
        "stranger": trustme.CA().cert_pem,
        "key": CLIENT.private_key_pem,
        "certificate": CLIENT.cert_chain_pems[0],
        "other_key": SERVER.private_key_pem,
    }
    for name, blob in contents.items():
        blob.write_to_path(str(folder / name))
    (folder / "nonsense").write_text("no certificate\n")
    return {file.name: file for file in folder.iterdir()}


@pytest.fixture(scope="module")
def secured(tmp_path_factory, saved_model):
    """The address of a server that wants clients' certificates."""
    folder = tmp_path_factory.mktemp("secured")
    (folder / "recommender").mkdir()
    (folder / "recommender" / "3").symlink_to(saved_model)
    fields = {
        "server_key": SERVER.private_key_pem.bytes().decode(),
        "server_cert": SERVER.cert_chain_pems[0].bytes().decode(),
        "custom_ca": CA.cert_pem.bytes().decode(),
    }
    lines = [f"{name}: {json.dumps(text)}" for name, text in fields.items()]
    (folder / "ssl.config").write_text("\n".join([*lines, "client_verify: true"]))
    options = ServerOptions(
        model_base_path=folder / "recommender",
        model_name="recommender",
        grpc_port=0,
        ssl_config_file=folder / "ssl.config",
    )
    with serve(options) as server:
        yield server.address


def ask(address, tls):
    with RecommenderClient(address, tls=tls, timeout=3.0, retries=0) as client:
        return client.recommend(["ann"], k=1)


def ask_async(address, tls):
    async def asked():
        async with AsyncRecommenderClient(address, tls=tls, timeout=3.0, retries=0) as client:
            return await client.recommend(["ann"], k=1)

    return asyncio.run(asked())


@pytest.mark.parametrize("ask", [ask, ask_async])
def test_mutual_tls(secured, files, ask):
    tls = ClientTls(files["root"], files["key"], files["certificate"], server_name=NAME)
    assert ask(secured, tls)[0].items[0].item_id == "ann/0"


@pytest.mark.parametrize("ask", [ask, ask_async])
@pytest.mark.parametrize(
    "given",
    [
        {"root": "stranger", "key": "key", "certificate": "certificate", "server_name": NAME},
        {"root": "root", "server_name": NAME},
        {"root": "root", "key": "key", "certificate": "certificate"},
    ],
    ids=["an authority we do not know", "no certificate of ours", "another name"],
)
def test_who_does_not_prove_who_it_is_gets_one_line(secured, files, ask, given):
    tls = ClientTls(**{name: files.get(value, value) for name, value in given.items()})
    with pytest.raises(RequestError, match="over TLS") as caught:
        ask(secured, tls)
    assert secured in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ask", [ask, ask_async])
@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"root": "missing"}, "missing cannot be read"),
        ({"root": "nonsense"}, "nonsense is no PEM certificate"),
        ({"key": "key"}, "given alone"),
        ({"key": "other_key", "certificate": "certificate"}, "no PEM pair"),
    ],
)
def test_files_that_cannot_work_are_refused_before_any_call(files, ask, given, why):
    paths = {
        name: files.get(value, files["root"].with_name(value)) for name, value in given.items()
    }
    with pytest.raises(UserError, match=why) as caught:
        ask("localhost:1", ClientTls(**paths))
    assert not isinstance(caught.value, RequestError)
    assert "\n" not in str(caught.value)


def test_the_command_line_takes_the_files(secured, files, capsys):
    from click.testing import CliRunner

    from tandem.cli import cli

    flags = ["--tls-root", files["root"], "--tls-key", files["key"], "--tls-name", NAME]
    flags += ["--tls-certificate", files["certificate"]]
    command = ["recommend", "--server", secured, "--user", "ann", "-k", "2", "--json", *flags]
    ended = CliRunner().invoke(cli, [str(word) for word in command])
    assert ended.exit_code == 0, ended
    answer = json.loads(ended.output)
    assert [item["item_id"] for item in answer["items"]] == ["ann/0", "ann/1"]
