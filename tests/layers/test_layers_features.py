"""From raw features to ids and numbers (Lookup), and to one vector per item (Encoder)."""

import numpy as np
import pytest

from tfmtl2r import Category, Dense, Schema
from tfmtl2r._backend import keras, tf
from tfmtl2r.batch import Batch
from tfmtl2r.layers.features import Encoder, Lookup

VALID = tf.ones([2, 3], tf.bool)


def in_lists(encoder, features, valid):
    batch = Batch(features, valid=valid)
    return batch.padded(encoder(batch=batch))


def encode(feature, value, valid=VALID, **options):
    return in_lists(Encoder(Schema([feature]), **options), {feature.name: tf.constant(value)}, valid).numpy()


class TestLookup:
    def test_vocabulary_with_unknown_values(self):
        lookup = Lookup(Schema([Category("brand", vocabulary=("a", "b"))]))
        ids = lookup({"brand": tf.constant([["a", "b"], ["?", ""]])})["brand"]
        assert ids.dtype == tf.int32
        assert ids.numpy().tolist() == [[1, 2], [0, 0]]

    def test_whole_numbers(self):
        lookup = Lookup(Schema([Category("year", vocabulary=(2020, 2021), dtype="int64")]))
        assert lookup({"year": tf.constant([2021, 1999, 2020], tf.int64)})["year"].numpy().tolist() == [2, 0, 1]

    def test_hashing(self):
        lookup = Lookup(Schema([Category("shop", buckets=5)]))
        ids = lookup({"shop": tf.constant([f"shop {i}" for i in range(100)])})["shop"].numpy()
        assert set(ids) == set(range(5))
        again = Lookup(Schema([Category("shop", buckets=5)]))
        np.testing.assert_array_equal(again({"shop": tf.constant([f"shop {i}" for i in range(100)])})["shop"], ids)

    def test_numbers_and_list_size_pass_through(self):
        found = Lookup(Schema([Dense("price")]))({
            "price": tf.constant([[1, 2]], tf.int64), "list_size": tf.constant([2], tf.int64), "other": tf.constant(0),
        })
        assert {name: value.dtype for name, value in found.items()} == {"price": tf.float32, "list_size": tf.int32}

    def test_a_missing_feature_is_named(self):
        with pytest.raises(KeyError, match=r"feature 'price' is missing; got \['cost'\]"):
            Lookup(Schema([Dense("price")]))({"cost": tf.constant([1.0])})

    def test_it_runs_in_tf_data(self):
        lookup = Lookup(Schema([Category("brand", vocabulary=("a", "b")), Dense("price")]))
        data = tf.data.Dataset.from_tensor_slices({"brand": [["b", "?"]], "price": [[1.0, 2.0]]}).map(lookup)
        assert next(iter(data))["brand"].numpy().tolist() == [2, 0]

    def test_an_unfitted_category_is_named(self):
        with pytest.raises(ValueError, match="feature 'brand' has no vocabulary yet: fit the schema"):
            Lookup(Schema([Category("brand")]))


class TestEncoder:
    def test_normalisation(self):
        value = encode(Dense("x", mean=(2.0,), variance=(4.0,)), [[2.0, 4.0, 0.0], [6.0, 0.0, 0.0]])
        np.testing.assert_allclose(value[..., 0], [[0, 1, -1], [2, -1, -1]])

    def test_without_statistics_numbers_pass(self):
        np.testing.assert_allclose(encode(Dense("x"), [[1.0, -2.0, 3.0], [0.0, 0.0, 0.0]])[0, :, 0], [1, -2, 3])

    @pytest.mark.parametrize("missing", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("transform", ["none", "log1p", "signed_log1p"])
    def test_missing_numbers_become_the_mean(self, missing, transform):
        feature = Dense("x", transform=transform, mean=(0.7,), variance=(0.25,))
        encoded = encode(feature, [[missing, 1.0, 1.0], [1.0, 1.0, missing]])
        np.testing.assert_array_equal(encoded[..., 0] == 0, [[True, False, False], [False, False, True]])

    def test_a_missing_number_leaves_gradients_finite(self):
        encoder = Encoder(Schema([Dense("x", transform="log1p")]))
        value = tf.constant([[np.nan, -1.0, 2.0]])
        with tf.GradientTape() as tape:
            tape.watch(value)
            total = tf.reduce_sum(encoder(batch=Batch({"x": value}, valid=tf.ones([1, 3], tf.bool))) ** 2)
        assert np.isfinite(tape.gradient(total, value)).all()

    def test_transforms(self):
        x = np.array([[0.0, 3.0, -3.0], [0.5, -0.5, 1.0]], np.float32)
        positive = np.log1p(np.maximum(x, 0))
        np.testing.assert_allclose(encode(Dense("x", transform="log1p"), x)[..., 0], positive, rtol=1e-6)
        signed = np.sign(x) * np.log1p(np.abs(x))
        np.testing.assert_allclose(encode(Dense("x", transform="signed_log1p"), x)[..., 0], signed, rtol=1e-6)

    def test_each_feature_has_its_own_transform(self):
        encoder = Encoder(Schema([Dense("a"), Dense("b", shape=(2,), transform="log1p")]))
        encoded = in_lists(
            encoder, {"a": tf.constant([[5.0]]), "b": tf.constant([[[5.0, 0.0]]])}, tf.ones([1, 1], tf.bool)
        )
        np.testing.assert_allclose(encoded[0, 0], [5.0, np.log(6.0), 0.0], rtol=1e-6)

    def test_clipping(self):
        value = encode(Dense("x", mean=(0.0,), variance=(1.0,), clip=3.0), [[2.0, 100.0, -100.0], [0.0, 0.0, 0.0]])
        np.testing.assert_allclose(value[0, :, 0], [2, 3, -3])

    def test_a_constant_feature_says_nothing(self):
        assert not encode(Dense("x", mean=(7.0,), variance=(0.0,)), [[7.0, 8.0, 7.0], [7.0, 7.0, 7.0]]).any()

    def test_vectors_and_features_of_the_list(self):
        schema = Schema([Dense("v", shape=(2,)), Dense("age", context=True), Dense("c", shape=(2,), context=True)])
        encoder = Encoder(schema)
        assert encoder.width == 5
        v = np.arange(12, dtype=np.float32).reshape(2, 3, 2) / 10
        features = {"v": v, "age": tf.constant([1.0, 2.0]), "c": tf.constant([[3.0, 4.0], [5.0, 6.0]])}
        encoded = in_lists(encoder, features, VALID).numpy()
        assert encoded.shape == (2, 3, 5)
        np.testing.assert_allclose(encoded[..., :2], v)
        np.testing.assert_allclose(encoded[..., 2:], np.array([[[1, 3, 4]] * 3, [[2, 5, 6]] * 3]))

    def test_plain_rows(self):
        dense = [Dense("x"), Dense("v", shape=(2,)), Dense("age", context=True)]
        encoded = Encoder(Schema([*dense, Category("b", buckets=3, dim=2)]))(batch=Batch({
            "x": tf.constant([1.0, 2.0]), "v": tf.zeros([2, 2]),
            "age": tf.constant([3.0, 4.0]), "b": tf.constant([0, 2]),
        }))
        assert encoded.shape == (2, 6)
        np.testing.assert_allclose(encoded[:, 0], [1, 2])
        np.testing.assert_allclose(encoded[:, 3], [3, 4])

    def test_embeddings(self):
        encoder = Encoder(Schema([Category("b", vocabulary=("x", "y"), dim=4), Category("c", buckets=2, context=True)]))
        ids = tf.constant([[0, 1, 2], [2, 0, 0]])
        encoded = in_lists(encoder, {"b": ids, "c": tf.constant([0, 1])}, VALID).numpy()
        table, context = (np.array(encoder.embeddings[name].embeddings) for name in "bc")
        assert table.shape == (3, 4)
        np.testing.assert_array_equal(encoded[..., :4], table[ids.numpy()])
        np.testing.assert_array_equal(encoded[..., 4:], np.repeat(context[:, None], 3, axis=1))

    @pytest.mark.parametrize(
        ("feature", "shape", "valid", "expected"),
        [
            (Dense("x"), (2, 3, 1), VALID, "expected 2 axes"),
            (Dense("x", shape=(4,)), (2, 3), VALID, "expected 3 axes"),
            (Dense("x", context=True), (2, 3), VALID, "expected 1 axes"),
            (Dense("x"), (2, 3), None, "expected 1 axes"),
        ],
    )
    def test_a_wrong_rank_is_an_error_with_both_shapes(self, feature, shape, valid, expected):
        with pytest.raises(ValueError, match=rf"feature 'x': {expected} .* got a tensor of shape \({shape[0]}, "):
            encode(feature, np.zeros(shape, np.float32), valid)

    def test_bfloat16_normalises_in_float32(self):
        """1000.5 has no bfloat16 of its own; its distance from the mean has."""
        feature = Dense("x", mean=(1000.0,), variance=(1.0,))
        schema = Schema([feature, Category("b", buckets=2, dim=1)])
        encoder = Encoder(schema, dtype=keras.DTypePolicy("mixed_bfloat16"))
        features = {"x": tf.constant([[1000.5, 999.25, 1000.0]]), "b": tf.zeros([1, 3], tf.int32)}
        encoded = in_lists(encoder, features, tf.ones([1, 3], tf.bool))
        assert encoded.dtype == tf.bfloat16
        np.testing.assert_array_equal(tf.cast(encoded, tf.float32)[0, :, 0], [0.5, -0.75, 0.0])
