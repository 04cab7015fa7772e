"""What the file of a ranker contains, apart from weights. Its configuration carries ``format``; this version writes 2.

Format 1 had no such key. It called the schema ``features`` and the flag ``has_lists`` ``lists``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from keras.src.backend.common import global_state  # has no public name

from tfmtl2r import blends, methods, penalties
from tfmtl2r._backend import keras
from tfmtl2r.errors import InputError
from tfmtl2r.plugins import expect
from tfmtl2r.schema import Schema
from tfmtl2r.task import Task
from tfmtl2r.training import finite, freezing
from tfmtl2r.training.inputs import described
from tfmtl2r.training.life import Compiled
from tfmtl2r.writing import written

FORMAT = 2
_SERVED = ("a SavedModel of the ranker alone could not look up raw features: use tfmtl2r.export(ranker, folder) for "
           "serving, or ranker.save('model.keras') to load the ranker again")
_HDF5 = ("a ranker cannot be loaded from an HDF5 file: save it to a .keras file, or serve it from the folder of "
         "tfmtl2r.export(ranker, folder)")
_RENAMED = {"features": "schema", "lists": "has_lists"}


def current(config: Mapping[str, Any]) -> dict[str, Any]:
    """Converts the configuration of a ranker to the current format, without the key ``format``.

    Args:
        config: a configuration of any format.

    Raises:
        ValueError: for a format that a later version wrote.

    >>> current({"tasks": [], "features": None, "lists": True})
    {'tasks': [], 'schema': None, 'has_lists': True}
    """
    config = dict(config)
    found = config.pop("format", 1)
    if found not in (1, FORMAT):
        raise InputError(f"this ranker was saved in format {found!r} by a later version of tfmtl2r; this version reads "
                         f"the formats 1 and {FORMAT}: upgrade tfmtl2r")
    return {_RENAMED.get(key, key): value for key, value in config.items()} if found == 1 else config


class SavedRanker(keras.Model):
    """The part of a ranker that turns it into plain data and back."""

    architecture: Any
    tasks: tuple[Task, ...]
    has_lists: bool | None
    conditioned: float | None
    blend: blends.Blend | None = None
    """The kind of blend of the served score, chosen after training; None for the default."""
    _compiled: Compiled | None = None
    _fitting = False

    @property
    def schema(self) -> Schema | None:
        """The features; None before the ranker knows them."""
        raise NotImplementedError

    @property
    def preference(self) -> Any:
        """``float32[T]``: importance of each task, sum 1."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Everything but the weights, as plain data.

        Raises:
            ValueError: inside of Keras' functions for HDF5 files, which could not be loaded.
        """
        if global_state.get_global_attribute("use_legacy_config", False):
            raise InputError(_HDF5)
        return {
            "format": FORMAT,
            "name": self.name,
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
            **described(self.architecture, self.tasks, self.schema),
            "schema": None if self.schema is None else self.schema.get_config(),
            "has_lists": self.has_lists,
            "conditioned": self.conditioned,
            **({} if self.blend is None else {"blend": blends.registry.describe(self.blend)}),
            **freezing.described(self),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        """Builds the ranker that :meth:`get_config` described, and creates its variables."""
        config = current(config)
        expect(config.pop("extensions", []))
        frozen = config.pop(freezing.FROZEN, None)
        policy, blend = keras.saving.deserialize_keras_object(config.pop("dtype")), config.pop("blend", None)
        config["tasks"] = [Task(**task) for task in config["tasks"]]
        if config["schema"] is not None:
            config["schema"] = Schema.from_config(config["schema"])
        ranker = cls(**config, dtype=policy)
        ranker.blend = None if blend is None else blends.get(blend)
        freezing.apply(ranker, frozen)
        return ranker

    def save(self, filepath: str | Path, overwrite: bool = True, zipped: bool | None = None) -> None:
        """Saves everything to a ``.keras`` file, from which :func:`tfmtl2r.load` makes an equal ranker.

        The file appears whole: if saving fails or is killed, a file of this name stays as it was.

        Raises:
            ValueError: for an ``.h5`` file, which could not be loaded.
            ValueError: for a layer with the variables of ``enable_lora`` or ``quantize``, which could not be loaded.
            NotFiniteError: for weights that are NaN or infinite.
        """
        if str(filepath).lower().endswith((".h5", ".hdf5")):
            raise InputError(f"{filepath}: {_HDF5}")
        freezing.refuse_changed(self)
        finite.check_weights(self.architecture.variables, f"{filepath} is not written")
        local = isinstance(filepath, (str, Path)) and "://" not in str(filepath) and str(filepath).endswith(".keras")
        if not local or not overwrite or zipped is False:  # a folder, or what Keras asks or refuses
            super().save(filepath, overwrite=overwrite, zipped=zipped)
            return
        with written(filepath) as temporary:
            super().save(temporary, zipped=zipped)

    def export(self, filepath: str | Path, *args: Any, **kwargs: Any) -> None:
        """Refuses: a served ranker also needs the lookup of its features.

        Raises:
            ValueError: always; the message contains what to use.
        """
        raise InputError(_SERVED)

    def quantize(self, *args: Any, **kwargs: Any) -> None:
        """Refuses: most layers of a ranker have no quantised form, and a file could not be loaded.

        Raises:
            ValueError: always.
        """
        raise InputError("a ranker cannot be quantised: its tables, towers and scorers have no quantised form; use "
                         "mixed_bfloat16 to make training cheaper")

    def _trackable_children(self, save_type: str = "checkpoint", **kwargs: Any) -> Any:
        """Refuses ``tf.saved_model.save``, which would write scores of ids in place of raw features."""
        if save_type == "savedmodel":
            raise InputError(_SERVED)
        return super()._trackable_children(save_type, **kwargs)  # type: ignore[misc]

    def save_own_variables(self, store: Any) -> None:
        """Writes what the places of weights mean: the names of features and tasks in their order, and a digest of the
        known values of each feature, since a value's place is its row in a table."""
        for key, texts in self._meanings().items():
            store[key] = np.frombuffer("\n".join(texts).encode(), np.uint8)

    def load_own_variables(self, store: Any) -> None:
        """Checks that weights were written for the same features, tasks and known values.

        Earlier files contain fewer of these, and then there is less to check.

        Raises:
            ValueError: if one of these differs, or their order.
        """
        written_keys, mine = list(store.keys()), self._meanings()
        for key in (key for key in ("features", "tasks", "values") if key in written_keys):
            saved, known = bytes(np.asarray(store[key])).decode().split("\n"), mine.get(key)
            if saved == known:
                continue
            if key == "values" and known is not None and self.schema is not None:
                place = next(i for i, (a, b) in enumerate(zip(saved, known, strict=True)) if a != b)
                raise InputError("the weights were written for other known values of the feature "
                                 f"{self.schema.names[place]!r}, so that the rows of its table mean others: load the "
                                 "whole ranker with tfmtl2r.load, or fit the schema on the same data")
            raise InputError(f"the weights were written for the {key} {', '.join(saved)}, but this ranker has "
                             f"{', '.join(known or ['none'])}: give it the same {key} in the same order")

    def _meanings(self) -> dict[str, list[str]]:
        found = {"tasks": [task.name for task in self.tasks]}
        if self.schema is not None:
            values = [feature.known_values or () for feature in self.schema.features]
            digests = [hashlib.sha256("\0".join(map(str, each)).encode()).hexdigest() for each in values]
            found |= {"features": list(self.schema.names), "values": digests}
        return found

    def get_weights(self) -> list[np.ndarray]:
        """The weights of the architecture, without the preference, the epoch counter and the method's state."""
        return self.architecture.get_weights()

    def set_weights(self, weights: Sequence[np.ndarray]) -> None:
        """Sets the weights that :meth:`get_weights` returns, and nothing else.

        Raises:
            ValueError: for another number of weights or another shape; then no weight is changed.
        """
        mine, given = ([tuple(w.shape) for w in side] for side in (self.architecture.weights, weights))
        if mine != given:
            different = next((f"weight {i} has the shape {theirs}, not {ours}"
                              for i, (ours, theirs) in enumerate(zip(mine, given, strict=False)) if ours != theirs),
                             f"there are {len(given)} weights, not {len(mine)}")
            raise InputError(f"set_weights takes what get_weights of an equal ranker returns, but {different}")
        self.architecture.set_weights(weights)

    def load_weights(self, filepath: str | Path, skip_mismatch: bool = False, **kwargs: Any) -> None:
        """Loads the weights of the architecture, and nothing else.

        Preference, epoch counter, the state of the method and the optimizer stay as they are.

        During ``fit``, callbacks such as ``BackupAndRestore`` load everything, since they continue a training.

        Args:
            filepath: a file of ``save_weights`` or ``save``.
            skip_mismatch: True to skip layers whose weights do not fit.

        Raises:
            ValueError: if the weights do not fit; then no weight is changed.
        """
        if self._fitting:
            super().load_weights(filepath, skip_mismatch=skip_mismatch, **kwargs)
            return
        before = self.get_weights()
        try:
            keras.saving.load_weights(_Weights(self), filepath, skip_mismatch=skip_mismatch, **kwargs)
        except Exception:
            self.set_weights(before)
            raise

    def get_build_config(self) -> dict[str, Any]:
        """Returns a truthy value, since Keras skips the weights of a model whose build config is empty."""
        return {"built": True}

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Does nothing: ``from_config`` creates all variables."""

    def get_compile_config(self) -> dict[str, Any]:
        """The arguments of ``compile`` as plain data; empty before ``compile``."""
        chosen = self._compiled
        if chosen is None:
            return {}
        method = methods.registry.describe(chosen.method)
        beside = [penalties.registry.describe(penalty) for penalty in chosen.penalties]
        return {
            "optimizer": keras.saving.serialize_keras_object(self.optimizer),
            "method": method,
            "extensions": [*methods.registry.extensions(method),
                           *(need for penalty in beside for need in penalties.registry.extensions(penalty))],
            "gradients": chosen.gradients,
            "preference": np.asarray(self.preference, np.float64).tolist(),
            "train_metrics": chosen.train_metrics,
            "seed": chosen.seed,
            "accumulate": chosen.accumulate,
            "on_nan": chosen.on_nan,
            "augment": chosen.augment,
            "feature_dropout": chosen.feature_dropout,
            "penalties": beside,
            freezing.OPTIMIZED: freezing.optimized(self),
            **chosen.options,
        }

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles with the saved arguments, and creates the optimizer's variables."""
        config = dict(config)
        expect(config.pop("extensions", []))
        optimizer = keras.saving.deserialize_keras_object(config["optimizer"])
        variables = freezing.to_optimize(self, config)
        self.compile(**{**config, "optimizer": optimizer})
        if variables is not None:
            self.optimizer.build(variables)


class _Weights(keras.layers.Layer):
    """The part of a ranker that ``load_weights`` changes, under its names in files."""

    def __init__(self, ranker: SavedRanker):
        super().__init__()
        self.architecture = ranker.architecture
        self._check = ranker.load_own_variables
        self.built = ranker.built

    def load_own_variables(self, store: Any) -> None:
        """Checks the features, as the ranker does."""
        self._check(store)
