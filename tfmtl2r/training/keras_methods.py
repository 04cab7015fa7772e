"""The methods of Keras' model that train, evaluate and predict, on a ranker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfmtl2r._backend import keras, tf
from tfmtl2r.batch import Batch
from tfmtl2r.data.passes import following, is_unchanged
from tfmtl2r.errors import InputError
from tfmtl2r.methods.base import Method
from tfmtl2r.training import members
from tfmtl2r.training.beside import check_columns, columns_of
from tfmtl2r.training.calibration import Calibrations
from tfmtl2r.training.finite import UNCHECKED, check_weights, told
from tfmtl2r.training.head_statistics import HeadStatistics
from tfmtl2r.training.infinite_features import Finite, refused
from tfmtl2r.training.inputs import say_ranges
from tfmtl2r.training.keras_arguments import WEIGHTED, batched, bound, refuse, signature_of, streamed
from tfmtl2r.training.memory import check_data
from tfmtl2r.training.method_state import CountEpochs, MethodState
from tfmtl2r.training.notices import Notices
from tfmtl2r.training.readings import Reading, Smearing, by_task, readings_of
from tfmtl2r.training.saving import SavedRanker
from tfmtl2r.training.trackers import SayWithoutValue, check_levels, log_names
from tfmtl2r.training.workers import Workers
from tfmtl2r.types import TaskScores

_DISTRIBUTED = tf.distribute.DistributedDataset


class KerasMethods(SavedRanker):
    """The part of a ranker that takes the arguments of Keras' methods, and refuses those that it cannot honour."""

    method_state: MethodState
    _train_step_checks = _test_step_checks = False  # whether the step itself looks for infinite features
    smearing: Smearing | None
    calibrations: Calibrations | None
    head_statistics: HeadStatistics

    def _prepare(self, x: Any) -> None:
        """Creates the variables of the network and of the running means, from the structure of the data."""
        raise NotImplementedError

    def _prepare_training(self) -> None:
        """Creates what only training needs. It depends on which variables are trainable now."""
        raise NotImplementedError

    @property
    def method(self) -> Method:
        """The balancing method."""
        raise NotImplementedError

    def prepare(self, x: Any) -> None:
        """Creates all variables that training needs, from the structure of the data.

        ``fit`` does the same. A custom loop around ``strategy.run(model.train_step, ...)`` must
        call it once before the first step, since a traced step must not create variables.

        Args:
            x: a data set or a batch: features by name, alone or in a tuple with labels.

        Raises:
            TypeError: if the features are not a dict.
        """
        self._check_in_train_step(not is_unchanged(x))
        self._check_in_test_step(not is_unchanged(x))
        self._prepare(x)
        self._prepare_training()

    def make_train_function(self, force: bool = False) -> Any:
        """Keras' training step, which ``fit`` and ``train_on_batch`` make. An error of its numbers becomes an error of
        this library."""
        self._prepare_training()
        workers = Workers(self.distribute_strategy)
        if workers.several:
            if force or self.train_function is None:
                self.train_function = told(workers.compiled(self.train_step))
        elif super().make_train_function(force) is None:  # Keras has made it anew
            self.train_function = told(self.train_function)
        return self.train_function

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """Creates the variables from the structure of the batches that Keras has made of the data. Keras' version
        averages a batch over replicas, and fails for some batches."""
        if data_batch is None:
            spec = iterator._get_iterator().element_spec  # reads no further batch of a generator
            # Each replica has its share of a batch, which has the same structure.
            data_batch = tf.nest.map_structure(lambda part: getattr(part, "_value_specs", (part,))[0], spec)
        self._prepare(data_batch)

    @signature_of(keras.Model.fit)
    def fit(self, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """Trains as Keras does, with Keras' arguments. ``class_weight`` and arguments without effect are refused.

        Data of :func:`tfmtl2r.data.batches` are read in the order of the ranker's own count of epochs. A loaded or
        restored ranker therefore continues with the batches of its next epoch. Residuals and calibrators of an earlier
        training are forgotten, until :func:`tfmtl2r.evaluation.scoring.fit_residuals` and
        :func:`tfmtl2r.evaluation.calibration.fit_calibrators` fit those of this one.
        """
        if Workers(self.distribute_strategy).several:
            raise InputError("Keras' fit does not work with several workers: call tfmtl2r.training.distributed.fit")
        given = bound("fit", args, kwargs)
        for fitted in (self.smearing, self.calibrations):
            if fitted is not None:
                fitted.reset()
        if self.schema is None:
            say_ranges(given.get("x"))
        self._prepare_early(given.get("x"))
        check_data(self, given.get("x"), given.get("validation_data"))
        self._check_in_train_step(isinstance(given.get("x"), _DISTRIBUTED))
        self._check_in_test_step(isinstance(given.get("validation_data"), _DISTRIBUTED))
        callbacks = given.get("callbacks")
        own = [CountEpochs(), SayWithoutValue(), Notices()]  # first, since others save the counter after an epoch
        if isinstance(callbacks, keras.callbacks.CallbackList):
            if not any(isinstance(one, CountEpochs) for one in callbacks.callbacks):
                callbacks.callbacks[:0] = own
                callbacks.set_model(self)
        else:
            given["callbacks"] = [*own, callbacks or []]  # Keras takes nested lists
        if batched(given.get("x")) and not isinstance(given["x"], keras.utils.PyDataset):
            given.setdefault("shuffle", False)  # the data have their own order, and Keras warns about shuffle=True
        self._fitting = True
        try:
            finite = Finite(self.schema)
            given |= {name: finite.watch(given[name]) for name in ("x", "validation_data") if name in given}
            with finite.in_words(), following(given["x"], lambda: self.method_state.epoch.numpy()):
                return super().fit(**given)
        finally:
            self._fitting = False

    @signature_of(keras.Model.evaluate)
    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluates as Keras does, with Keras' arguments. A list of values has the order of ``metrics_names``."""
        given = bound("evaluate", args, kwargs)
        check_weights(self.architecture.variables, "evaluate")
        self._prepare_early(given.get("x"))
        if (workers := Workers(self.distribute_strategy)).several:
            logs = workers.evaluate(self, given.get("x"), given.get("callbacks"))
            return logs if given.get("return_dict") else self._flatten_metrics_in_order(logs)
        if self._fitting:  # fit has prepared its validation data
            return super().evaluate(**given)
        self._check_in_test_step(isinstance(given.get("x"), _DISTRIBUTED))
        finite = Finite(self.schema)
        given["x"] = finite.watch(given.get("x"))
        with finite.in_words():
            return super().evaluate(**given)

    def predict_on_batch(self, x: Mapping[str, Any]) -> Any:
        """Scores of one batch, as :meth:`predict` returns them."""
        return self.predict(x, batch_size=len(next(iter(x.values()))))

    @signature_of(keras.Model.train_on_batch)
    def train_on_batch(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Makes one step as Keras does, with Keras' arguments except ``class_weight``."""
        refuse("train_on_batch", kwargs, WEIGHTED)
        return super().train_on_batch(Finite(self.schema).watch_batch(x), *args, **kwargs)

    @signature_of(keras.Model.test_on_batch)
    def test_on_batch(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Evaluates one batch as Keras does, with Keras' arguments."""
        return super().test_on_batch(Finite(self.schema).watch_batch(x), *args, **kwargs)

    def _check_in_train_step(self, check: bool) -> None:
        """Makes each training step check its features, or no longer. Only a step can check distributed data."""
        if check != self._train_step_checks:
            self._train_step_checks, self.train_function = check, None

    def _check_in_test_step(self, check: bool) -> None:
        """Does the same for each step of an evaluation, which may read other data than the training that it is in."""
        if check != self._test_step_checks:
            self._test_step_checks, self.test_function = check, None

    def _checked(self, batch: Batch, here: bool) -> Batch:
        """The batch, whose features the step checks if nothing before it could."""
        if here and self._compiled is not None and self._compiled.checks != UNCHECKED:
            refused(batch)
        return batch

    def _prepare_early(self, x: Any) -> None:
        """Creates the variables before Keras reads the data, except for a stream, whose structure is not known yet."""
        if not streamed(x):
            self._prepare(x)

    def make_test_function(self, force: bool = False) -> Any:
        """Keras' function of an evaluated batch, see :meth:`make_train_function`."""
        workers = Workers(self.distribute_strategy)
        if workers.several:
            if force or self.test_function is None:
                self.test_function = told(workers.compiled(self.test_step))
        elif super().make_test_function(force) is None:
            self.test_function = told(self.test_function)
        return self.test_function

    def readings(self, has_lists: bool | None = None) -> dict[str, Reading]:
        """What the labels and scores of each task mean (:mod:`tfmtl2r.training.readings`).

        Args:
            has_lists: whether batches contain lists; by default what the ranker knows, else True.
        """
        has_lists = self.has_lists is not False if has_lists is None else has_lists
        return readings_of(self.tasks, has_lists, self.smearing, self.calibrations)

    def merged(self, scores: TaskScores, batch: Batch) -> TaskScores:
        """The scores of the architecture; those of an ensemble as one score per item (:func:`members.merge`).

        The columns that values depend on are beside them (:mod:`tfmtl2r.training.beside`).
        """
        readings, count = self.readings(not batch.is_rows), self.architecture.members
        columns = columns_of(batch, [name for reading in readings.values() for name in reading.columns])
        scores = {**scores, **columns}
        return scores if count is None else {**members.merge(readings, scores, count, batch.valid), **columns}

    def check_scores(self, has_lists: bool) -> None:
        """Refuses tasks whose scores cannot be measured or merged."""
        readings = self.readings(has_lists)
        check_levels(readings.values(), has_lists)
        members.check(readings, self.num_members, has_lists)

    def check_columns(self) -> None:
        """Refuses calibrators that read what a request does not contain."""
        for name, reading in self.readings().items():
            check_columns(name, reading.columns, self.architecture.schema)

    @property
    def num_members(self) -> int:
        """The number of members of an ensemble; 1 for any other architecture."""
        return self.architecture.members or 1

    @property
    def parts_of_a_batch(self) -> int:
        """The number of parts of a batch that run one after the other in a training step."""
        return 1 if self._compiled is None else self._compiled.accumulate

    @property
    def has_members(self) -> bool:
        """Whether there are several members, whose values may disagree."""
        return self.num_members > 1

    @property
    def list_context(self) -> bool:
        """Whether an item's scores depend on the other items of its list."""
        merged = self.has_members and not all(reading.has_own_level for reading in self.readings().values())
        return merged or self.architecture.list_context

    def values(self, scores: TaskScores) -> dict[str, Any]:
        """The values of scores in the unit of each task's label, such as probabilities or seconds.

        Args:
            scores: what :meth:`predict` returns: scores by task, and what their values depend on beside them.

        Returns:
            task -> values, for the tasks whose loss determines the level of the scores, or that are calibrated.
        """
        return by_task(self.readings(), scores)

    @property
    def metrics_names(self) -> list[str]:
        """The names of the values that :meth:`evaluate` returns, in their order: the losses, the metrics, ``stop_on``.

        Default metrics of tasks differ between lists and plain rows. While a ranker has seen neither, the names end
        before the first metric.
        """
        return log_names(self.tasks, self.has_lists)

    def _flatten_metrics_in_order(self, logs: Mapping[str, Any]) -> list[Any]:
        """Keras' list of the values in logs, in the order of :attr:`metrics_names`."""
        return [logs[name] for name in self.metrics_names if name in logs]
