"""Tasks, feature schemas and the batch layout: what they accept, what they refuse, and that they survive JSON."""

import dataclasses
import json
import math

import numpy as np
import pytest

from tfmtl2r import Category, Dense, Schema, Task
from tfmtl2r._backend import tf
from tfmtl2r.batch import Batch, unpack
from tfmtl2r.names import digest, safe_name
from tfmtl2r.serving.signatures import input_names
from tfmtl2r.task import validated


class TestTask:
    def test_the_label_is_the_name_unless_given(self):
        assert Task("click").label == "click"
        assert Task("click", label="is_click").label == "is_click"
        assert Task("click", metrics=["auc"]).metrics == ("auc",)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"name": "\ud800"}, "half of a character"),
            ({"name": ""}, "task name ''"),
            ({"name": "a\n"}, "control character"),
            ({"name": 3}, "task name 3: expected text"),
            *(({"name": name}, f"a task may not be called '{name}'") for name in ("all", "val", "val_x", "blend",
                                                                                  "weights", "inside")),
            ({"name": "a", "kind": "odd"}, "task 'a': kind must be one of binary, graded, regression, not 'odd'"),
            ({"name": "a", "weight": -1.0}, "task 'a': weight must be a finite number >= 0, not -1.0"),
            ({"name": "a", "weight": math.nan}, "weight must be a finite number"),
            ({"name": "a", "priority": 0}, "priority must be 1"),
        ],
    )
    def test_nonsense_is_refused(self, options, message):
        with pytest.raises(ValueError, match=message):
            Task(**options)

    def test_several_tasks(self):
        assert validated(["a", Task("b")]) == (Task("a"), Task("b"))
        assert validated([Task("a", weight=0.0), "b"])[0].weight == 0.0

    @pytest.mark.parametrize(
        ("tasks", "message"),
        [
            ([], "at least one task"),
            (["a", "a"], "two tasks are called 'a'"),
            ([Task("a", weight=0.0)], "all task weights are 0"),
        ],
    )
    def test_impossible_sets_of_tasks(self, tasks, message):
        with pytest.raises(ValueError, match=message):
            validated(tasks)


class TestSchema:
    def test_round_trip_through_json(self):
        schema = Schema([
            Dense("x", shape=(2,), transform="log1p", mean=(1, 2), variance=(3, 4), clip=5.0),
            Dense("age", context=True),
            Category("brand", vocabulary=["a", "b"], dim=3),
            Category("shop", buckets=7, context=True),
            Category("year", vocabulary=(2020, 2021), dtype="int64"),
        ])
        again = Schema.from_config(json.loads(json.dumps(schema.get_config())))
        assert again == schema
        assert again.names == ("x", "age", "brand", "shop", "year")
        assert [f.name for f in again.features if f.embedded] == ["brand", "shop", "year"]

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: Schema([]), "at least one feature"),
            (lambda: Schema([Dense("a"), Category("a")]), "two features are called 'a'"),
            (lambda: Schema([Dense("list_size")]), "may not be called 'list_size'"),
            (lambda: Schema([Dense("a"), Category("preference")]), "may not be called 'preference'"),
            (lambda: Schema([Dense("*")]), r"may not be called '\*': it stands for all other columns"),
            (lambda: Schema([Dense("")]), "feature name ''"),
            (lambda: Schema([Dense("a\tb")]), "control character"),
            (lambda: Dense("a", transform="sqrt"), "transform must be one of none, log1p, .* not 'sqrt'"),
            (lambda: Dense("a", shape=(2, 2)), r"shape must be \(\) or \(D,\), not \(2, 2\)"),
            (lambda: Dense("a", shape=(2,), mean=(1.0,)), "mean has 1 numbers, expected 2"),
            (lambda: Category("a", vocabulary=("x",), buckets=3), "a vocabulary or a number of hash buckets, not both"),
            (lambda: Category("a", buckets=0), "buckets must be at least 1"),
            (lambda: Category("a", dtype="float"), "dtype must be 'string' or 'int64'"),
            (lambda: Category("a").size, "has no vocabulary yet"),
        ],
    )
    def test_nonsense_is_refused(self, make, message):
        with pytest.raises(ValueError, match=message):
            make()

    def test_widths(self):
        assert Dense("a").width == 1
        assert Dense("a", shape=(3,)).width == 3
        assert Category("a", vocabulary=("x", "y")).size == 3  # the unknown value is the third
        assert Category("a", buckets=3).size == 3
        assert Category("a", buckets=3, dim=9).width == 9
        assert Category("a", buckets=100).width == math.ceil(1.6 * 100**0.56)
        assert Category("a", buckets=10**6).width == 32


class TestUnpack:
    def test_features_labels_weights(self):
        features = {"x": 1, "list_size": 2}
        parts = unpack((features, {"a": 3}, {"a": 4}))
        assert parts == (features, {"a": 3}, {"a": 4})
        parts[0].clear()
        assert features == {"x": 1, "list_size": 2}, "the caller's dict is left alone"

    @pytest.mark.parametrize("data", [{"x": 1}, ({"x": 1},), ({"x": 1}, None), ({"x": 1}, None, None)])
    def test_what_is_not_there_is_empty(self, data):
        assert unpack(data) == ({"x": 1}, {}, {})

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (([1, 2], {"a": 1}), "features of a batch must be a dict of tensors by name, not list"),
            (({"x": 1}, 3.0), "labels of a batch must be a dict of tensors by name, not float"),
            (({"x": 1}, {"a": 1}, [1.0]), "weights of a batch must be a dict of tensors by name, not list"),
        ],
    )
    def test_wrong_parts_are_named(self, data, message):
        with pytest.raises(TypeError, match=message):
            unpack(data)


class TestBatch:
    SCHEMA = Schema([Dense("age", context=True), Dense("x", shape=(2,))])

    def make(self, **more):
        x = {"x": tf.reshape(tf.range(12.0), [2, 3, 2]), "age": tf.constant([5.0, 6.0]),
             "list_size": tf.constant([2, 1]), **more}
        return Batch.of((x, {"a": tf.constant([[1.0, 0, 0], [1, 0, 0]])}, {"a": tf.constant([2.0, 3])}), self.SCHEMA,
                        tf.constant([0.25, 0.75]))

    def test_it_is_made_once_and_whole(self):
        batch = self.make()
        assert batch.valid.numpy().tolist() == [[True, True, False], [True, False, False]]
        assert batch.preference.numpy().tolist() == [[0.25, 0.75]] * 2
        assert set(batch.features) == {"x", "age"}
        assert Batch.of({"x": tf.zeros([4, 2])}, self.SCHEMA).is_rows

    def test_a_second_reading_finds_the_same_preference(self):
        """What the data brought is not popped from them."""
        x = {"x": tf.zeros([2, 3, 2]), "age": tf.zeros([2]), "list_size": tf.constant([2, 1]),
             "preference": tf.constant([[3.0, 1.0], [0.0, 0.0]])}
        for _ in range(2):
            batch = Batch.of(x, self.SCHEMA, tf.constant([0.5, 0.5]))
            assert batch.preference.numpy().tolist() == [[0.75, 0.25], [0.5, 0.5]]

    def test_a_part_takes_along_all_that_belongs_to_its_lists(self):
        whole = self.make(preference=tf.constant([[1.0, 0.0], [0.0, 1.0]]))
        part = whole.at(tf.constant([1]))
        for field in dataclasses.fields(Batch):
            pairs = zip(*(tf.nest.flatten(getattr(batch, field.name)) for batch in (whole, part)), strict=True)
            for before, after in (pair for pair in pairs if pair[0] is not None):
                np.testing.assert_array_equal(after, np.asarray(before)[1:], err_msg=field.name)

    def test_items_and_lists(self):
        batch = self.make()
        rows = batch.packed(batch.features["x"])
        assert rows.numpy().tolist() == [[0, 1], [2, 3], [6, 7]]
        assert batch.repeated(batch.features["age"]).numpy().tolist() == [5, 5, 6]
        np.testing.assert_array_equal(batch.padded(rows), np.where(batch.valid[..., None], batch.features["x"], 0))
        scores = tf.reshape(tf.range(1.0, 7.0), [1, 2, 3])
        assert batch.as_lists(scores).numpy().tolist() == [[[[1, 2, 0], [3, 0, 0]], [[4, 5, 0], [6, 0, 0]]]]

    def test_lists_need_a_feature_per_item(self):
        with pytest.raises(ValueError, match="at least one feature per item"):
            Batch.of({"age": tf.zeros([2]), "list_size": tf.constant([1, 1])}, Schema([Dense("age", context=True)]))


def test_names_that_would_be_equal_in_files_are_refused():
    """A name may be spelled like the safe name of another one."""
    for safe in (safe_name("a/b"), safe_name("ö")):
        other = "a/b" if safe.startswith("a") else "ö"
        with pytest.raises(ValueError, match=f"the features '{other}' and '{safe}' would both be called '{safe}'"):
            Schema([Dense(other), Dense(safe)])
        with pytest.raises(ValueError, match=f"the tasks '{safe}' and '{other}' would both be called"):
            validated([safe, other])
    validated(["a/b", "a b", "a_b"])


def test_inputs_of_signatures_differ_whatever_their_names_are():
    names = ["1", "feature_1"]
    names += [f"feature_1_{digest(name)}" for name in names]
    names += [f"feature_1_{digest(names[2])}", "FEATURE_1"]
    found = input_names(Schema([Dense(name) for name in names]), ["score_click"], lists=True)
    assert len({name.lower() for name in found.values()}) == len(names) + 1
