"""The quickstart notebook, run from top to bottom as in CI, on the smallest preset."""

import json
import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "01_quickstart.ipynb"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("notebook")


@pytest.fixture(scope="module")
def executed(folder):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    environment = dict(os.environ, TANDEM_PRESET="seed", TF_CPP_MIN_LOG_LEVEL="3")
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=400,
        resources={"metadata": {"path": str(folder)}},
    )
    return client.execute(env=environment)


def outputs(notebook, kind):
    return [
        output["data"][kind]
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if kind in output.get("data", {})
    ]


def test_it_is_committed_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


def test_it_shows_the_models_beside_the_baselines_and_two_plots(executed):
    table = "\n".join(outputs(executed, "text/markdown"))
    for row in ("popularity", "recent popularity", "retrieval", "recommender", "oracle"):
        assert f"| {row} |" in table
    assert len(outputs(executed, "image/png")) == 2


def test_it_shows_recommendations_with_titles(executed, folder):
    assert "Recommendations for u" in "".join(outputs(executed, "text/plain"))
    manifest = json.loads((folder / "runs/quickstart-seed/bundle/manifest.json").read_text())
    assert manifest["window"]["items"] == 10
