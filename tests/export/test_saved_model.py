import numpy as np
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


def test_no_small_operation_is_left_to_onednn_and_the_answers_stay(tmp_path):
    def chain(x: tf.Tensor) -> dict[str, tf.Tensor]:
        turned = tf.transpose(tf.nn.softmax(tf.transpose(x, [0, 2, 1])), [0, 2, 1])
        seen = tf.cond(
            tf.reduce_any(x > 0),
            lambda: tf.matmul(turned, tf.transpose(x, [0, 2, 1])),
            lambda: tf.matmul(turned, x, transpose_b=True),
        )
        # whole numbers are none of oneDNN's business
        places = tf.transpose(tf.cast(x, tf.int32), [1, 0, 2])
        return {"seen": tf.nn.softmax(seen), "turned": turned, "places": places}

    spec = tf.TensorSpec([None, None, None], name="x")
    call = tf.function(chain, input_signature=[spec])
    save_model(tmp_path / "model", {"serving_default": call}, tables=[])
    file = (tmp_path / "model" / "saved_model.pb").read_bytes()
    functions = SavedModel.FromString(file).meta_graphs[0].graph_def.library.function
    shared = {
        node.op
        for function in functions
        for node in function.node_def
        if node.attr["T"].type == tf.float32.as_datatype_enum
    }
    assert not shared & {"BatchMatMulV2", "Transpose", "Softmax"}
    x = tf.constant(np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32))
    for values in (x, -tf.abs(x), x[:0], 1e4 * x):
        found = tf.saved_model.load(str(tmp_path / "model")).signatures["serving_default"](x=values)
        for name, expected in call(values).items():
            np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-6)


def test_only_a_conditional_that_reads_much_is_called(tmp_path):
    many = [tf.Variable(tf.fill([2], float(n))) for n in range(30)]

    def chosen(x: tf.Tensor) -> dict[str, tf.Tensor]:
        much = tf.cond(tf.reduce_any(x > 0), lambda: x + tf.add_n(many), lambda: x)
        little = tf.cond(tf.reduce_any(x < 0), lambda: -x, lambda: 2.0 * x)
        return {"much": much, "little": little}

    call = tf.function(chosen, input_signature=[tf.TensorSpec([None], name="x")])
    save_model(tmp_path / "model", {"serving_default": call}, tables=[])
    file = (tmp_path / "model" / "saved_model.pb").read_bytes()
    functions = SavedModel.FromString(file).meta_graphs[0].graph_def.library.function
    taken_apart = {
        len(node.input): node.attr["_lower_using_switch_merge"].b
        for function in functions
        for node in function.node_def
        if node.op in ("If", "StatelessIf")
    }
    assert sorted(taken_apart.values()) == [False, True]
    assert not taken_apart[max(taken_apart)]
    ask = tf.saved_model.load(str(tmp_path / "model")).signatures["serving_default"]
    for x in ([1.0, 2.0], [-1.0, -2.0]):
        expected = call(tf.constant(x))
        found = ask(x=tf.constant(x))
        for name in expected:
            np.testing.assert_allclose(found[name], expected[name])


def test_a_gradient_of_ones_own_is_not_missed_when_the_model_is_loaded(tmp_path, caplog):
    @tf.custom_gradient
    def doubled(x: tf.Tensor):
        return 2.0 * x, lambda upstream: 2.0 * upstream

    call = tf.function(
        lambda x: {"y": doubled(x)}, input_signature=[tf.TensorSpec([None], name="x")]
    )
    save_model(tmp_path / "model", {"serving_default": call}, tables=[])
    assert b"_gradient_op_type" not in (tmp_path / "model" / "saved_model.pb").read_bytes()
    loaded = tf.saved_model.load(str(tmp_path / "model")).signatures["serving_default"]
    assert loaded(x=tf.constant([1.5]))["y"].numpy() == [3.0]
    assert "gradient" not in caplog.text
