"""Features of both sides: multiplied once per query, crossed as in DCN-v2, dotted as in DLRM."""

import numpy as np
import pytest

from features.backend import tf, tfrs
from ranking.config import RankingConfig
from ranking.interaction import CrossNetwork, DotInteraction, NoInteraction, interaction_of
from ranking.sides import Layers, Sides, SidesDense

B, C, U, K = 3, 4, 5, 6


@pytest.fixture
def sides():
    rng = np.random.default_rng(0)
    return Sides(
        tf.constant(rng.normal(size=(B, U)), tf.float32),
        tf.constant(rng.normal(size=(B, C, K)), tf.float32),
    )


def shuffled(module):
    """Give every weight a value that no two have, biases and zeros included."""
    rng = np.random.default_rng(1)
    for variable in module.trainable_variables:
        variable.assign(rng.normal(size=variable.shape) / 2)


def kernels(module, part):
    return [v for v in module.trainable_variables if part in v.name]


def test_a_dense_layer_of_both_sides_is_one_of_the_joined_features(sides):
    layer = SidesDense(7, activation="relu", name="layer")
    layer(sides)
    shuffled(layer)
    query, candidate = kernels(layer, "query/kernel")[0], kernels(layer, "candidate/kernel")[0]
    bias = kernels(layer, "bias")[0]
    product = sides.joined().numpy() @ np.concatenate([query, candidate]) + bias.numpy()
    np.testing.assert_allclose(layer(sides), np.maximum(product, 0), atol=1e-5)


def test_layers_without_any_pass_the_joined_features_on(sides):
    layers = Layers((), rate=0.5, salt=1, name="none")
    np.testing.assert_array_equal(layers(sides, tf.constant([1, 2])), sides.joined())
    assert layers.last_kernels == []


def test_the_cross_network_is_that_of_tfrs(sides):
    ours = CrossNetwork(2, rank=3)
    ours(sides)
    shuffled(ours)
    joined = sides.joined()
    crossed = joined
    for n in range(2):
        theirs = tfrs.layers.dcn.Cross(projection_dim=3)
        theirs(joined, joined)
        inner = [*kernels(ours, f"cross_in_{n}_query"), *kernels(ours, f"cross_in_{n}_candidate")]
        if n:
            inner = kernels(ours, "cross_in_1_candidate")
        outer, bias = kernels(ours, f"cross_out_{n}/kernel")[0], kernels(ours, f"out_{n}/bias")[0]
        theirs.set_weights([np.concatenate([v.numpy() for v in inner]), outer, bias])
        crossed = theirs(joined, crossed)
    found = ours(sides)
    assert found.query is None
    np.testing.assert_allclose(found.candidate, crossed, rtol=1e-4, atol=1e-4)


def test_no_layer_crosses_nothing(sides):
    for network in (CrossNetwork(0, rank=3), NoInteraction()):
        assert network(sides) is sides


def test_the_dot_interaction_adds_the_products_of_all_pairs_of_fields(sides):
    fields, dim = 2, 3
    layer = DotInteraction(fields=fields, dim=dim)
    layer(sides)
    shuffled(layer)
    found = layer(sides)

    def projected(values, part):
        kernel, bias = (kernels(layer, f"{part}/{kind}")[0].numpy() for kind in ("kernel", "bias"))
        flat = values.numpy() @ kernel + bias
        return flat.reshape(*flat.shape[:-1], fields, dim)

    ours, theirs = projected(sides.query, "query"), projected(sides.candidate, "candidate")
    np.testing.assert_allclose(found.query[:, :U], sides.query)
    np.testing.assert_allclose(found.candidate[:, :, :K], sides.candidate)
    for b in range(B):
        own = ours[b, 1] @ ours[b, 0] / dim**0.5
        assert found.query[b, U:].numpy() == pytest.approx([own], rel=1e-4)
        for c in range(C):
            wanted = [theirs[b, c, n] @ ours[b, m] / dim**0.5 for n in range(2) for m in range(2)]
            wanted.append(theirs[b, c, 1] @ theirs[b, c, 0] / dim**0.5)
            assert found.candidate[b, c, K:].numpy() == pytest.approx(wanted, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "kind"), [("dcn", CrossNetwork), ("dot", DotInteraction), ("none", NoInteraction)]
)
def test_the_config_names_the_interaction(name, kind):
    assert isinstance(interaction_of(RankingConfig(interaction=name)), kind)


@pytest.mark.parametrize(
    ("kind", "names"),
    [("dcn", ["cross_out_1"]), ("dot", ["dot_query", "dot_candidate"]), ("none", [])],
)
def test_the_last_kernels_are_the_interactions_own_and_shape_what_comes_out(sides, kind, names):
    layers = interaction_of(RankingConfig(interaction=kind, embedding_dim=4))
    layers(sides)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layers(sides).joined())
    last = layers.last_kernels
    assert [kernel.name.split("/")[0] for kernel in last] == names
    assert all(gradient is not None for gradient in tape.gradient(total, last))
