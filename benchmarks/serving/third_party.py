"""A client that somebody else wrote, min-tfs-client from the package index, asks our server.

    python -m benchmarks.serving.third_party runs/demo/bundle

It gets an environment of its own, for its messages need protobuf 3, and neither TensorFlow nor any
of our packages is in there. Its answers are compared with those of the exported graph itself.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export.manifest import Bundle, read_bundle
from export.signatures import COUNT, DEFAULT, ITEM_ID, RECOMMENDER, SCORE, USER_ID

PACKAGES = ("min-tfs-client==1.0.2", "protobuf==3.20.3")

_ASK = """
import json, sys
import numpy as np
from min_tfs_client.requests import TensorServingClient
from min_tfs_client.tensors import tensor_proto_to_ndarray

host, port, model, users = json.load(sys.stdin)
client = TensorServingClient(host=host, port=port)
response = client.predict_request(model_name=model, input_dict={"user_id": np.array(users)})
outputs = {name: tensor_proto_to_ndarray(tensor) for name, tensor in response.outputs.items()}
json.dump(
    {
        name: (np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values).tolist()
        for name, values in outputs.items()
    },
    sys.stdout,
)
"""


def environment(folder: Path) -> Path:
    """Return the interpreter of an environment in `folder` with the client, made if missing."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        quiet = ["--quiet", "--disable-pip-version-check"]
        subprocess.run([python, "-m", "pip", "install", *quiet, *PACKAGES], check=True)
    return python


def ask(python: Path, address: str, users: Sequence[str]) -> Mapping[str, Any]:
    """Return what the third party's client makes of the answer, outputs as lists by name."""
    host, _, port = address.rpartition(":")
    question = json.dumps([host, int(port), RECOMMENDER, list(users)])
    done = subprocess.run(
        [python, "-c", _ASK], input=question, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def expected(bundle: Bundle, users: Sequence[str]) -> Mapping[str, np.ndarray]:
    """Return what the SavedModel says when TensorFlow runs it, without any server."""
    from features.backend import tf

    call = tf.saved_model.load(str(bundle.model(RECOMMENDER))).signatures[DEFAULT]
    return {
        name: tensor.numpy() for name, tensor in call(**{USER_ID: tf.constant(list(users))}).items()
    }


def disagreements(found: Mapping[str, Any], right: Mapping[str, np.ndarray]) -> list[str]:
    """Return a line for each output that differs from the graph's."""
    lines = [f"{name}: only on one side" for name in sorted(found.keys() ^ right.keys())]
    for name in sorted(found.keys() & right.keys()):
        values = right[name]
        if values.dtype == object:
            same = [[item.decode() for item in row] for row in values] == found[name]
        else:
            same = np.allclose(values, found[name], rtol=1e-5, atol=1e-5)
        lines += [] if same else [f"{name}: differs"]
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--venv", type=Path, help="Folder of the environment; kept if given.")
    given = parser.parse_args()
    from serving.server import serve

    bundle = read_bundle(given.bundle)
    vocabulary = bundle.model(RECOMMENDER) / "assets" / "user_ids.txt"
    users = [*vocabulary.read_text(encoding="utf-8").split("\n")[:20], "nobody has this id"]
    with tempfile.TemporaryDirectory() as folder:
        python = environment(given.venv or Path(folder) / "venv")
        with serve(bundle.folder, grpc_port=0) as server:
            found = ask(python, server.address, users)
    wrong = disagreements(found, expected(bundle, users))
    for line in wrong:
        print(line)
    print(
        f"{PACKAGES[0]}: {len(users)} users, {sum(found[COUNT])} items, {len(found)} outputs; "
        f"first {found[ITEM_ID][0][0]!r} at {found[SCORE][0][0]:.4f}; "
        + (f"{len(wrong)} outputs are wrong" if wrong else "all as the graph says")
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
