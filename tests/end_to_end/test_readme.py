"""Whatever the README tells people to type: it exists, it parses, and it runs."""

import re
import shlex
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from tandem.cli import cli
from tandem.config import parse_config

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")
ADDRESS = "127.0.0.1:8500"


@dataclass(frozen=True)
class Place:
    """A folder in which the README's paths are there, and a server that has its bundle."""

    folder: Path
    address: str

    def adapted(self, text):
        return text.replace(ADDRESS, self.address)


def blocks(language, text=README):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def commands():
    """The lines of the shell blocks as lists of words, continued lines joined, remarks gone."""
    text = "".join(blocks("sh")).replace("\\\n", " ")
    return [words for line in text.splitlines() if (words := shlex.split(line, comments=True))]


def tandem_commands():
    return [words[1:] for words in commands() if words[0] == "tandem"]


def wanted(name):
    return [words for words in tandem_commands() if words[0] == name]


def snippet(needle):
    found = [block for block in blocks("python") if needle in block]
    assert len(found) == 1
    return found[0]


def run_python(code, folder):
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120
    )


@pytest.fixture(scope="module")
def place(exported_bundle, tmp_path_factory):
    from serving.server import serve

    folder = tmp_path_factory.mktemp("reader")
    (folder / "runs/movielens").mkdir(parents=True)
    (folder / "runs/movielens/bundle").symlink_to(exported_bundle.folder)
    (folder / "users.csv").write_text("user_id\n42\n7\n", encoding="utf-8")
    with serve(exported_bundle.folder, grpc_port=0) as server:
        yield Place(folder, server.address)


def test_the_first_screen_has_exactly_the_two_commands_that_do_everything():
    first = blocks("sh")[0]
    assert [line.split("#")[0].strip() for line in first.splitlines()] == ["make demo", "make test"]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_make_has_every_target_that_is_named(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", text, flags=re.MULTILINE))
    assert named <= targets


@pytest.mark.parametrize("words", tandem_commands(), ids=" ".join)
def test_every_tandem_command_has_these_arguments(words):
    command = cli.commands[words[0]]
    assert command.make_context(words[0], list(words[1:])).params
    for word in words:
        if word.startswith("configs/"):
            assert (ROOT / word).is_file()


def test_the_table_of_commands_has_all_commands_and_their_flags():
    rows = re.findall(r"^\| `tandem (.*?)` \|", README, flags=re.MULTILINE)
    assert {row.split()[0] for row in rows} == set(cli.commands)
    for row in rows:
        known = {flag for one in cli.commands[row.split()[0]].params for flag in one.opts}
        assert set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", row)) <= known


@pytest.mark.parametrize("text", blocks("yaml"))
def test_every_config_is_accepted(text, tmp_path):
    assert parse_config(yaml.safe_load(text), base=tmp_path).data.events


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_linked_or_named_file_is_there(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    named = re.findall(r"`((?:[a-z_]+/)+(?:[\w-]+\.(?:py|yaml|ipynb))?)`", text)
    made = {"bundle/", "plots/", "retriever/", "ranker/", "first_retriever/"}
    inside = [name for name in named if name not in made]
    missing = [name for name in (*links, *inside) if not (_root_of(name) / name).exists()]
    assert not missing


def _root_of(name):
    """Folders of tests are named without `tests/`."""
    return ROOT if (ROOT / name).exists() else ROOT / "tests"


def test_the_client_asks_without_tensorflow(place):
    code = place.adapted(snippet("RecommenderClient"))
    done = run_python(code + "\nimport sys\nassert 'tensorflow' not in sys.modules\n", place.folder)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == ["42"] * 5 + ["7"] * 5
    assert all(line[1].startswith("item-") for line in lines)


def test_the_official_stubs_ask_without_tandem(place):
    code = place.adapted(snippet("tensorflow_serving.apis"))
    after = """
        import sys
        ours = {"tandem", "serving", "export", "features", "interactions"}
        assert not ours & {name.partition(".")[0] for name in sys.modules}
    """
    done = run_python(code + textwrap.dedent(after), place.folder)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    scores = [float(score) for _, score in rows]
    assert len(rows) == 10
    assert scores == sorted(scores, reverse=True)


def test_batch_answers_from_python_and_from_the_command_line(place, monkeypatch):
    import pyarrow.parquet as pq

    done = run_python(snippet("batch_recommend"), place.folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == "2"
    monkeypatch.chdir(place.folder)
    [words] = wanted("batch")
    assert CliRunner().invoke(cli, words, catch_exceptions=False).exit_code == 0
    tables = [pq.read_table(folder) for folder in ("lists", "runs/movielens/lists")]
    assert tables[0].num_rows == 20
    assert tables[0].equals(tables[1])


def test_recommend_shows_a_list(place):
    [words] = wanted("recommend")
    adapted = [place.adapted(word) for word in words]
    shown = CliRunner().invoke(cli, adapted, catch_exceptions=False)
    assert shown.exit_code == 0
    assert shown.output.count("item-") == 10


def test_docker_is_given_files_that_the_bundle_has(exported_bundle):
    [words] = [words for words in commands() if words[0] == "docker"]
    given = [word.partition("=")[2] for word in words if word.startswith("--") and "=" in word]
    inside = [Path(path).relative_to("/models") for path in given]
    assert len(inside) == 2
    assert all((exported_bundle.folder / path).is_file() for path in inside)


def test_the_table_of_signatures_is_the_bundles(exported_bundle):
    rows = re.findall(r"^\| (retrieval|ranking|recommender) \| (.*?) \|", README, re.MULTILINE)
    told = {(model, name) for model, names in rows for name in re.findall(r"`(\w+)`", names)}
    signatures = exported_bundle.manifest.signatures
    assert told == {(model, name) for model, by_name in signatures.items() for name in by_name}
