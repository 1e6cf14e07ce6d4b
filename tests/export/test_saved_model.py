from tensorflow.core.protobuf.config_pb2 import ConfigProto
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from export.saved_model import save_model
from features.backend import tf


def test_saved_functions_ask_to_be_run_as_they_are_and_nothing_else_does(tmp_path):
    before = tf.config.optimizer.get_experimental_options()
    double = tf.function(lambda x: {"y": 2 * x}, input_signature=[tf.TensorSpec([None], name="x")])
    save_model(tmp_path / "model", {"serving_default": double}, tables=[])
    file = (tmp_path / "model" / "saved_model.pb").read_bytes()
    graph = SavedModel.FromString(file).meta_graphs[0].graph_def
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    asked = [
        ConfigProto.FromString(node.attr["config_proto"].s).graph_options.rewrite_options
        for node in nodes
        if "config_proto" in node.attr and node.name.startswith("StatefulPartitionedCall")
    ]
    assert asked and all(options.disable_meta_optimizer for options in asked)
    assert not tf.config.optimizer.get_experimental_options().get("disable_meta_optimizer")
    assert before.items() <= tf.config.optimizer.get_experimental_options().items()
