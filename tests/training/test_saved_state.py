"""What is loaded is what was saved: frozen parts, the optimizer, the state of training; weights are weights only."""

import copy
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tfmtl2r
from tfmtl2r import Category, Dense, MultiTaskRanker, Schema, Task, _import_hook
from tfmtl2r._backend import keras

TASKS = (Task("click", kind="binary", loss="bce", metrics=()), Task("buy", kind="binary", loss="bce", metrics=()))
RNG = np.random.default_rng(0)
X = {"x": RNG.normal(size=(8, 3)).astype(np.float32), "brand": RNG.integers(0, 3, (8, 3)).astype(np.int32),
     "list_size": np.full(8, 3, np.int32)}
Y = {task.name: RNG.integers(0, 2, (8, 3)).astype(np.float32) for task in TASKS}


def made(method="ls", optimizer="adam", units=2, tasks=TASKS, values=("a", "b"), **options):
    keras.utils.set_random_seed(1)
    schema = Schema([Dense("x"), Category("brand", vocabulary=values, dim=2)])
    ranker = MultiTaskRanker({"name": "shared_bottom", "units": [units], "head_units": []}, tasks, schema)
    ranker.compile(optimizer, method=method, run_eagerly=True, **options)
    return ranker


def fit(ranker, **options):
    ranker.fit(X, Y, batch_size=4, shuffle=False, verbose=0, **options)
    return ranker


def everything(ranker):
    return [np.array(v) for v in (*ranker.variables, *ranker.optimizer.variables)]


def assert_equal(ranker, other, steps=True):
    for ours, theirs in zip(everything(ranker), everything(other), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert [v.shape for v in ranker.trainable_variables] == [v.shape for v in other.trainable_variables]
    assert [layer.trainable for layer in ranker._flatten_layers()] == [
        layer.trainable for layer in other._flatten_layers()]
    if steps:
        for each in (ranker, other):
            fit(each)
        assert_equal(ranker, other, steps=False)


def encoder(ranker):
    ranker.architecture.encoder.trainable = False


def trunk(ranker):
    ranker.architecture.trunk.trainable = False


def one_variable(ranker):
    ranker.architecture.trunk.trainable_variables[0].trainable = False


def all_but_a_part(ranker):
    ranker.architecture.trainable = False
    ranker.architecture.trainable = True
    for layer in ranker.architecture._layers:
        layer.trainable = False
    ranker.architecture.scorers.trainable = True


FREEZE = [encoder, trunk, one_variable, all_but_a_part]


def through_a_file(ranker, folder):
    ranker.save(folder / "model.keras")
    return tfmtl2r.load(folder / "model.keras")


COPIES = [through_a_file, pytest.param(lambda ranker, folder: copy.deepcopy(ranker), marks=pytest.mark.slow)]


@pytest.mark.slow
@pytest.mark.parametrize("again", COPIES, ids=["file", "deepcopy"])
@pytest.mark.parametrize("freeze", FREEZE)
def test_frozen_parts_and_the_optimizer_survive(freeze, again, tmp_path):
    """Frozen before or after the first step, at any depth."""
    before, after = made(), fit(made())
    freeze(before)
    fit(before)
    freeze(after)
    for ranker in (before, after):
        count = len(ranker.trainable_variables)
        other = again(ranker, tmp_path)
        assert 0 < len(other.trainable_variables) == count < len(made().trainable_variables)
        assert_equal(ranker, other)


@pytest.mark.parametrize("again", COPIES, ids=["file", "deepcopy"])
def test_a_ranker_that_was_never_fitted_survives(again, tmp_path):
    assert_equal(ranker := made(), again(ranker, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ls", "mgda", "db_mtl", "moco", "famo"])
@pytest.mark.parametrize("freeze", FREEZE[:3])
def test_freezing_after_compile_and_between_epochs_holds(method, freeze):
    for ranker in (made(method), fit(made(method))):
        freeze(ranker)
        frozen = [v for v in ranker.architecture.variables if not v.trainable]
        start, epoch = [np.array(v) for v in frozen], int(ranker.method_state.epoch)
        others = [np.array(v) for v in ranker.trainable_variables]
        fit(ranker)
        for variable, value in zip(frozen, start, strict=True):
            np.testing.assert_array_equal(variable, value)
        assert all(np.any(np.array(v) != old) for v, old in zip(ranker.trainable_variables, others, strict=True)
                   if "embeddings" not in v.path)
        assert int(ranker.method_state.epoch) == epoch + 1


@pytest.mark.slow
@pytest.mark.parametrize("method", ["db_mtl", "moco", "famo"])
def test_an_evaluation_between_freezing_and_unfreezing_changes_nothing(method):
    """Before and after the first step: method's state and optimizer are those of the next training, not of now."""
    for ranker in (made(method), fit(made(method))):
        before = everything(ranker)
        trunk(ranker)
        ranker.evaluate(X, Y, verbose=0)
        ranker.test_on_batch(X, Y)
        ranker.architecture.trunk.trainable = True
        for ours, theirs in zip(everything(ranker), before, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        fit(ranker)


def test_what_cannot_be_trained_is_refused_in_words():
    ranker = made()
    ranker.trainable = False
    with pytest.raises(ValueError, match="every variable of the ranker is frozen"):
        fit(ranker)
    assert ranker.evaluate(X, Y, verbose=0)[0] > 0
    ranker.trainable = True
    encoder(ranker)
    fit(ranker).architecture.encoder.trainable = True
    with pytest.raises(ValueError, match=r"no state for '.*embeddings', .* call compile again after unfreezing"):
        fit(ranker)
    ranker.compile(run_eagerly=True)
    fit(ranker)
    averaged = fit(made(optimizer=keras.optimizers.Adam(0.1, use_ema=True)))
    encoder(averaged)
    with pytest.raises(ValueError, match=r"use_ema keeps averages .* call compile again after freezing"):
        fit(averaged)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
@pytest.mark.parametrize("source", ["ls", "famo", "moco"])
def test_weights_are_weights_only(source, suffix, tmp_path):
    """Also between methods, whose states have other shapes."""
    saved = fit(made(source, keras.optimizers.Adam(0.5)), epochs=2)
    ranker = made("famo", keras.optimizers.SGD(0.1)) if source == "ls" else made(preference=[3, 1])
    fit(ranker)
    kept = [*ranker.method_state.variables, *ranker.optimizer.variables]
    values = [np.array(v) for v in kept]
    (saved.save if suffix == ".keras" else saved.save_weights)(tmp_path / f"file{suffix}")
    ranker.load_weights(tmp_path / f"file{suffix}")
    for ours, theirs in zip(ranker.architecture.variables, saved.architecture.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    ranker.set_weights([weight + 1 for weight in saved.get_weights()])
    for ours, theirs in zip(ranker.architecture.variables, saved.architecture.variables, strict=True):
        np.testing.assert_array_equal(ours, np.array(theirs) + 1)
    for variable, value in zip(kept, values, strict=True):
        np.testing.assert_array_equal(variable, value)
    assert int(ranker.method_state.epoch) == 1


def test_weights_that_do_not_fit_change_nothing(tmp_path):
    ranker, other = made(), made(units=3)
    other.save_weights(tmp_path / "other.weights.h5")
    before = ranker.get_weights()
    with pytest.raises(ValueError, match="shape"):
        ranker.load_weights(tmp_path / "other.weights.h5")
    with pytest.raises(ValueError, match=r"weight \d has the shape \(.*\), not"):
        ranker.set_weights(other.get_weights())
    with pytest.raises(ValueError, match="there are 1 weights, not"):
        ranker.set_weights(before[:1])
    for ours, theirs in zip(ranker.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(("other", "message"), [
    ({"tasks": TASKS[::-1]}, r"for the tasks click, buy, but this ranker has buy, click"),
    ({"values": ("b", "a")}, r"other known values of the feature 'brand'"),
], ids=["tasks", "values"])
def test_weights_whose_places_mean_something_else_are_refused(other, message, tmp_path):
    """The shapes are equal, so that nothing else would notice."""
    made().save_weights(tmp_path / "w.weights.h5")
    with pytest.raises(ValueError, match=f"(?s){message}"):
        made(**other).load_weights(tmp_path / "w.weights.h5")


@pytest.mark.parametrize("change", ["enable_lora", "quantize"])
def test_layers_that_no_file_contains_are_refused_before_training(change, tmp_path):
    ranker = made()
    layer = next(each for each in ranker.architecture._flatten_layers() if isinstance(each, keras.layers.Dense))
    getattr(layer, change)(*([2] if change == "enable_lora" else ["int8"]))
    for refused in (lambda: fit(ranker), lambda: ranker.save(tmp_path / "m.keras")):
        with pytest.raises(ValueError, match=r"which no file of a ranker contains"):
            refused()
    with pytest.raises(ValueError, match="a ranker cannot be quantised"):
        ranker.quantize("int8")


class Broken(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_a_backup_continues_the_whole_training(tmp_path):
    """Unlike ``load_weights`` by the user, a backup restores the optimizer and the method, too."""
    straight = fit(made("famo"), epochs=4)
    first, second = made("famo"), made("famo")
    with pytest.raises(KeyboardInterrupt):
        fit(first, epochs=4, callbacks=[keras.callbacks.BackupAndRestore(tmp_path), Broken()])
    fit(second, epochs=4, callbacks=[keras.callbacks.BackupAndRestore(tmp_path)])
    for ours, theirs in zip(everything(second), everything(straight), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


LOAD = """
import sys
for name in sys.argv[2:]:
    __import__(name)
import keras
ranker = keras.saving.load_model(sys.argv[1])
print(type(ranker).__name__, type(ranker.optimizer).__name__)
"""


@pytest.mark.parametrize("order", [
    ("tfmtl2r", "keras"), pytest.param(("keras", "tfmtl2r"), marks=pytest.mark.slow),
    pytest.param(("tfmtl2r.losses",), marks=pytest.mark.slow),
])
@pytest.mark.slow
def test_keras_loads_a_ranker_whichever_was_imported_first(order, tmp_path):
    fit(made()).save(tmp_path / "model.keras")
    done = subprocess.run([sys.executable, "-c", LOAD, str(tmp_path / "model.keras"), *order], check=True, text=True,
                          capture_output=True)
    assert done.stdout.split() == ["MultiTaskRanker", "LazyAdam"]


def test_every_class_that_keras_can_load_is_known_before_its_import():
    sources = {file: file.read_text() for file in Path(tfmtl2r.__file__).parent.rglob("*.py")}
    registered = {
        name: ".".join(file.relative_to(Path(tfmtl2r.__file__).parents[1]).with_suffix("").parts)
        for file, text in sources.items()
        for name in re.findall(r"^@keras.saving.register_keras_serializable\(.*\)\nclass (\w+)", text, re.MULTILINE)
    }
    assert registered == _import_hook.CLASSES
