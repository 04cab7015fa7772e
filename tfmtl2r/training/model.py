"""The ranker: a Keras model whose ``train_step`` balances tasks."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

from tfmtl2r import architectures, methods
from tfmtl2r._backend import keras, tf
from tfmtl2r.architectures.base import Architecture
from tfmtl2r.batch import LIST_SIZE, PREFERENCE, Batch
from tfmtl2r.errors import InputError, InputKeyError, InputTypeError
from tfmtl2r.layers import randomness
from tfmtl2r.methods.base import Method, check_mode
from tfmtl2r.preferences import checked_preference, normalised
from tfmtl2r.schema import Schema
from tfmtl2r.task import Task, validated
from tfmtl2r.training import augmentation, drawing, finite, freezing, optimizers
from tfmtl2r.training.accumulation import AccumulatingEngine
from tfmtl2r.training.calibration import calibrations_of
from tfmtl2r.training.engine import Engine, Step, state_shapes
from tfmtl2r.training.guard import Guard
from tfmtl2r.training.head_statistics import HeadStatistics
from tfmtl2r.training.inputs import check_parts, described, plain_schema, specs
from tfmtl2r.training.keras_arguments import COMPILE, check_steps, refuse
from tfmtl2r.training.keras_methods import KerasMethods
from tfmtl2r.training.life import Compiled, CompileOptions, Connected, Described, ModelOptions, SetUp
from tfmtl2r.training.method_state import MethodState, new_preference
from tfmtl2r.training.objectives import TaskLosses
from tfmtl2r.training.penalising import checked
from tfmtl2r.training.readings import smearing_of, start_at_base_rates
from tfmtl2r.training.replicas import Replicas
from tfmtl2r.training.telemetry import Telemetry
from tfmtl2r.training.trackers import Trackers
from tfmtl2r.types import TaskScores

log = logging.getLogger(__name__)


@keras.saving.register_keras_serializable("tfmtl2r")
class MultiTaskRanker(KerasMethods):
    """A Keras model that scores every item of a list once per task.

    ``fit``, ``evaluate``, ``save`` and callbacks work as in Keras. :mod:`tfmtl2r.batch` describes the batches.

    Args:
        architecture: a name, ``{"name": ..., option: value}``, or a ready architecture.
        tasks: :class:`tfmtl2r.Task` objects, or names.
        schema: the features, fitted on the training split. Without a schema, every feature of the first batch counts
            as numbers that need no preprocessing.
        has_lists: True for lists, False for plain rows; if None, the first data decide, and it is saved.
        conditioned: concentration of a Dirichlet distribution (1 is uniform). If given, the ranker has the preference
            as an input, and training steps draw it (:mod:`tfmtl2r.training.drawing`): one training serves all
            trade-offs. Batches for evaluation and prediction may contain ``preference``, ``float32[B, T]``; without
            it the preference of ``compile`` is used. Training batches must not contain it.

    >>> from tfmtl2r import Dense
    >>> ranker = MultiTaskRanker("shared_bottom", ["click", "buy"], Schema([Dense("price")]))
    >>> scores = ranker({"price": tf.ones([2, 3]), "list_size": tf.constant([3, 1])})
    >>> {task: score.shape.as_list() for task, score in scores.items()}
    {'click': [2, 3], 'buy': [2, 3]}
    """

    method_state: MethodState
    _connected: Connected | None = None
    _set_up: SetUp | None = None
    _telemetry: Telemetry | None = None

    def __init__(
        self,
        architecture: str | Mapping[str, Any] | Architecture,
        tasks: Sequence[Task | str],
        schema: Schema | None = None,
        has_lists: bool | None = None,
        conditioned: float | None = None,
        **kwargs: Unpack[ModelOptions],
    ):
        super().__init__(**kwargs)
        if conditioned is not None and not conditioned > 0:
            raise InputError(f"conditioned is a concentration of a Dirichlet distribution, above 0, not {conditioned}")
        self.has_lists, self.conditioned, self.autocast = has_lists, conditioned, False
        self.tasks = validated(tasks)
        self.architecture: Architecture = architectures.get(architecture)
        check_parts(self.tasks)
        described(self.architecture, self.tasks, schema)  # raises for parts that could not be saved
        self.smearing, self.calibrations = smearing_of(self.tasks), calibrations_of(self.tasks)
        self.head_statistics = HeadStatistics([task.name for task in self.tasks], name="head_statistics")
        if has_lists is not None:  # otherwise, the first data decide
            self.check_scores(has_lists)
        self._described = Described(new_preference(normalised([task.weight for task in self.tasks], self.tasks)))
        if schema is not None:
            self._connect(schema)

    def call(self, inputs: dict[str, Any], training: bool = False) -> TaskScores:
        """Scores (logits) per task: ``float32[B, L]`` for lists, ``[B]`` for plain rows; an ensemble's are merged.

        Args:
            inputs: looked-up features (categories as ids, see :class:`tfmtl2r.batch.Batch`), with ``list_size`` for
                lists.
            training: True in a training step: dropout and other random layers are active.
        """
        return self.merged(self.architecture(batch=(batch := self.batch(inputs)), training=training), batch)

    @property
    def schema(self) -> Schema | None:
        """The features; None before the ranker knows them."""
        return None if self._connected is None else self._connected.schema

    @property
    def preference(self) -> keras.Variable:
        """``float32[T]``: importance of each task, sum 1; the default of a conditioned ranker for its input."""
        return self._described.preference

    @property
    def method(self) -> Method:
        """The balancing method; an error before ``compile``."""
        return self._choices().method

    @property
    def seed(self) -> int:
        """The seed of all random numbers in a training step; an error before ``compile``."""
        return self._choices().seed

    def batch(self, data: Any, preference: Any = None) -> Batch:
        """Turns an element of a data set into the input of the architecture.

        Args:
            data: looked-up features by name, alone or in a tuple with labels and weights.
            preference: ``float32[T]``, default preference of the lists, for a conditioned ranker. None stands for the
                ranker's own preference.
        """
        schema = self._schema()
        if self.conditioned is None:
            return Batch.of(data, schema)
        return Batch.of(data, schema, self.preference if preference is None else preference)

    def compile(
        self,
        optimizer: str | keras.optimizers.Optimizer = "adam",
        method: str | Mapping[str, Any] | Method = "linear_scalarization",
        gradients: str = "parameters",
        preference: Sequence[float] | Mapping[str, float] | None = None,
        train_metrics: bool = True,
        seed: int = 0, accumulate: int = 1, on_nan: str = "error",
        augment: float = 0.0, feature_dropout: float = 0.0,
        penalties: Sequence[Any] = (),
        **keras_options: Unpack[CompileOptions],
    ) -> None:
        """Sets optimizer, balancing method and preference.

        Args:
            optimizer: a Keras optimizer, or its name; see :mod:`tfmtl2r.training.optimizers` for embedding tables.
            method: a balancing method, its name, or ``{"name": ..., option: value}``.
            gradients: ``"parameters"`` for exact gradients of the shared parameters. ``"features"`` for gradients of
                the shared features that the heads read (the architecture's cut), at 1.1 to 1.3 times the time of a
                plain step. The norm of a combined gradient there bounds its norm in the parameters, up to a constant
                (Sener and Koltun 2018, https://arxiv.org/abs/1810.04650).
            preference: importance of each task, by name or in the tasks' order; ``Task.weight`` by default.
            train_metrics: True to compute the metrics on training batches, too.
            seed: seed of all random numbers in a training step.
            accumulate: number of parts of a batch that run one after the other in a step, so that memory has to hold
                one part only. The update is that of the whole batch (:mod:`tfmtl2r.training.accumulation`).
            on_nan: what happens to a step whose losses or gradients are not finite: ``"error"``, ``"skip_batch"`` or
                ``"drop_task"``, see :class:`tfmtl2r.training.guard.Guard`.
            augment, feature_dropout: random changes of training batches, see :mod:`tfmtl2r.training.augmentation`.
            penalties: names with options, or penalties (:mod:`tfmtl2r.penalties`); they must be fitted.
            **keras_options: ``run_eagerly``, ``steps_per_execution``, ``jit_compile``.

        Raises:
            ValueError: if the method does not support the gradients, if a preference is given that it cannot use, or
                for arguments of Keras and its optimizers that would have no effect on a ranker.
        """
        refuse("compile", keras_options, COMPILE)
        optimizer = optimizers.get(optimizer)
        if self.dtype_policy.name == "mixed_float16" or isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            raise InputError("mixed_float16 scales the loss, and balancing methods would receive scaled gradients; use "
                             "mixed_bfloat16")
        chosen = methods.get(method).for_tasks(self.tasks)
        methods.registry.describe(chosen)  # raises for a method that could not be saved
        check_mode(chosen, gradients)
        keras_options.setdefault("jit_compile", False)
        check_steps(keras_options.get("steps_per_execution", 1))
        weights = [task.weight for task in self.tasks] if preference is None else preference
        values = checked_preference(weights, self.tasks, chosen, self.conditioned is not None)
        options = {name: value for name, value in keras_options.items() if name not in COMPILE}
        augmentation.check(augment, feature_dropout, self.has_lists)
        compiled = Compiled(chosen, gradients, train_metrics, seed, accumulate, on_nan, augment, feature_dropout,
                            checked(penalties, self.tasks), options)
        super().compile(optimizer=optimizer, **options)
        self.preference.assign(values)
        self._compiled, self._set_up = compiled, None
        self._make_method_state()
        self._retrace()

    def _make_method_state(self) -> None:
        """Creates the method's state, if both features and method are known."""
        if self._connected is None or self._compiled is None:
            return
        if hasattr(self, "method_state"):
            self._tracker.untrack(self.method_state)  # Keras would otherwise save the old state, not the new one
            del self.method_state
        shapes = state_shapes(self.architecture, self.method, self._compiled.gradients)
        self.method_state = MethodState(self.method, self.preference, shapes, self.seed)

    def _retrace(self) -> None:
        self.train_function = self.test_function = None

    def watch_gradients(self, every: int | None) -> Telemetry | None:
        """Samples task weights and the tasks' gradients during the following calls of ``fit``.

        Args:
            every: steps between samples; None stops the sampling.

        Returns:
            The object that holds the last sample; None without sampling.
        """
        with self.distribute_strategy.scope() if self.distribute_strategy else contextlib.nullcontext():
            before, self._telemetry = self._telemetry, None if every is None else Telemetry(len(self.tasks), every)
        if (before, every) != (None, None):
            self._retrace()
        return self._telemetry

    def set_preference(self, preference: Sequence[float] | Mapping[str, float]) -> None:
        """Changes the preference of a compiled ranker between steps, without a new trace.

        Args:
            preference: importance of each task, by name or in the tasks' order, >= 0, normalised to sum 1.

        Raises:
            ValueError: before ``compile``, or for a preference that the method cannot use.
        """
        if not self.compiled:
            raise InputError("compile the ranker first: the method decides which preferences are allowed")
        self.preference.assign(checked_preference(preference, self.tasks, self.method))

    @tf.autograph.experimental.do_not_convert  # there is nothing to convert, and a loop of one's own would try it
    def train_step(self, data: Any) -> dict[str, Any]:
        """Makes one update and returns the running losses and metrics."""
        freezing.check(self)
        replicas, state = Replicas(), self.method_state
        clock = state.clock(self.optimizer.iterations.value, self.conditioned)
        batch = self._checked(self.batch(data, clock.preference), self._train_step_checks)
        if self.conditioned is not None and drawing.has_own(data, self.method):
            batch, clock = drawing.per_list(batch, clock, self.conditioned, state.draws(clock.step), replicas)
        running = self._set_up_for(not batch.is_rows)
        engine, trackers, choices = running.engine, running.trackers, self._choices()
        batch = augmentation.augmented(batch, self._schema(), choices.augment, choices.feature_dropout,
                                       replicas.own_seed(clock.seed))

        def make(batch: Batch) -> Step:
            with randomness.scope(replicas.own_seed(clock.seed), clock.seed):
                return engine.step(batch, clock, state.read())

        def update(batch: Batch, step: Step) -> None:
            if self._telemetry is not None:
                self._telemetry.record(step, clock.step, replicas, lambda: engine.gram_at_cut(batch, step.losses.count))
            self.optimizer.apply(*map(list, zip(*step.gradients, strict=True)))
            with randomness.scope(replicas.own_seed(clock.seed), clock.seed):  # same dropout masks as in the step
                state.write(engine.states_after(batch, step))
            state.unsettled.assign_add(step.unsettled)
            trackers.update(batch, step, replicas, choices.train_metrics)
            self.head_statistics.update(batch, self.merged(step.scores, batch), replicas)

        Guard(choices.checks, engine, trackers.skip).run(batch, clock.step, make, update)
        # The running means cover batches with many drawn preferences. Their sum uses the fixed preference.
        return trackers.logs(self.preference, replicas, metrics=choices.train_metrics) | trackers.skips()

    @tf.autograph.experimental.do_not_convert
    def test_step(self, data: Any) -> dict[str, Any]:
        """Adds a batch to the running losses and metrics, without an update of weights."""
        batch, replicas = self._checked(self.batch(data), self._test_step_checks), Replicas()
        running = self._set_up_for(not batch.is_rows)
        scores = self.architecture(batch=batch, training=False)
        finite.check_scores(scores, self._choices().checks)
        with randomness.scope(randomness.step_seed(self.method_state.seed, 0)):
            running.trackers.update_losses(running.engine.losses(batch, scores, replicas), replicas)
        running.trackers.update_metrics(batch, self.merged(scores, batch))
        return running.trackers.logs(self.preference, replicas)

    def _prepare(self, x: Any) -> None:
        spec = getattr(x, "element_spec", x)
        features = spec[0] if isinstance(spec, tuple) else spec
        if not isinstance(features, Mapping):
            raise InputTypeError(f"a ranker reads a dict of features by name, not {type(features).__name__}; "
                                 "tfmtl2r.data.batches makes batches of a table's lists")
        with self.distribute_strategy.scope() if self.distribute_strategy else contextlib.nullcontext():
            if self._connected is None:
                self._connect(plain_schema(features))
            if self.compiled:
                self._set_up_for(LIST_SIZE in features)

    def _prepare_training(self) -> None:
        if not self.compiled:
            return
        with self.distribute_strategy.scope() if self.distribute_strategy else contextlib.nullcontext():
            self._follow_freezing()
            if not self.optimizer.built and self.trainable_variables:
                self.optimizer.build(self.trainable_variables)

    def _follow_freezing(self) -> None:
        """Makes engine and traces anew if other variables are trainable than before, and the method's state if it has a
        number per trainable parameter."""
        if self._set_up is not None and not self._set_up.engine.trains(self.trainable_variables):
            has_lists, self._set_up = self._set_up.has_lists, None
            self._set_up_for(has_lists)
            self._retrace()
        shapes = state_shapes(self.architecture, self.method, self._choices().gradients)
        if not self.method_state.fits(self.method, shapes):
            epoch = int(self.method_state.epoch.numpy())
            if epoch:
                log.warning("%s starts with a new state, since other variables are trainable than before",
                            type(self.method).__name__)
            self._make_method_state()
            self.method_state.epoch.assign(epoch)
            self._retrace()

    def predict(
        self, x: Any, batch_size: int | None = None, verbose: int | str = 0, steps: int | None = None,
        callbacks: Any = None, *, layout: str | None = None, list_id: str | None = None, preference: Any = None,
    ) -> Any:
        """Scores of every item in input order; see :func:`tfmtl2r.training.prediction.predict`."""
        from tfmtl2r.training.prediction import Run, predict  # loads pandas, which training does not need

        return predict(self, x, Run(batch_size, verbose, steps, callbacks), layout, list_id, preference)

    def scores(self, features: dict[str, Any]) -> TaskScores:
        """Returns the same scores as ``ranker(features)``, from one compiled graph for all batch shapes.

        With ``run_eagerly=True`` there is no graph. TensorFlow counts the graphs of each ranker by themselves.
        """
        asked = len(self.tasks) if self.conditioned is not None and PREFERENCE in features else None
        layout = specs(self._schema(), has_lists=LIST_SIZE in features, preference=asked)
        graphs, key = self._connected_with().graphs, tuple(layout)
        if key not in graphs:
            score = functools.partial(self, training=False)
            graphs[key] = tf.function(score, input_signature=[layout], autograph=False)
        missing = sorted(set(layout) - set(features))
        if missing:
            raise InputKeyError(f"feature {missing[0]!r} is missing; got {sorted(features)}")
        given = {name: tf.cast(features[name], spec.dtype) for name, spec in layout.items()}
        return self(given, training=False) if self.run_eagerly else graphs[key](given)

    @property
    def metrics(self) -> list[Any]:
        """The running means that Keras resets at the start of an epoch."""
        return [] if self._set_up is None else self._set_up.trackers.all()

    def build(self, input_shape: Any = None) -> None:
        """Does nothing once the features are known, since all variables exist then; raises an error before."""
        self._schema()
        self.built = True

    def start_from_seed(self, seed: int) -> None:
        """Changes the seed between steps, without a new trace. The ranker must be compiled and know its features."""
        self._compiled = dataclasses.replace(self._choices(), seed=seed)
        self.method_state.seed.assign(seed)

    def _connected_with(self) -> Connected:
        if self._connected is None:
            raise InputError("this ranker does not know its features yet: pass schema=Schema(...), or fit it first")
        return self._connected

    def _schema(self) -> Schema:
        """The features that scores depend on."""
        self._connected_with()
        return self.architecture.schema

    def _choices(self) -> Compiled:
        if self._compiled is None:
            raise InputError("this ranker is not compiled yet: call compile first")
        return self._compiled

    def _connect(self, schema: Schema) -> None:
        self.architecture.connect(
            [task.name for task in self.tasks], schema, conditioned=self.conditioned is not None,
            dtype=self.dtype_policy,
        )
        self.check_columns()
        self._connected = Connected(schema, start_at_base_rates(self.architecture, self.readings().values()))
        self.built = True
        self._make_method_state()

    def _set_up_for(self, has_lists: bool) -> SetUp:
        if self._set_up is None or self._set_up.has_lists != has_lists:
            undecided, self.has_lists = self.has_lists is None, has_lists
            if undecided:  # the default losses differ, and so do the scores that stand for a base rate
                start_at_base_rates(self.architecture, self.readings().values(), self._connected_with().biases)
            chosen, architecture = self._choices(), self.architecture
            self.check_scores(has_lists)
            losses = TaskLosses(self.tasks, has_lists, architecture.small_heads, architecture.needs_probabilities)
            parts = architecture, losses.with_teacher(chosen.distillation), chosen.method, chosen.gradients, \
                chosen.penalties
            engine = Engine(*parts) if chosen.accumulate == 1 else AccumulatingEngine(*parts, parts=chosen.accumulate)
            trackers = Trackers(self.tasks, has_lists, chosen.on_nan != "error", self.readings(has_lists))
            self._set_up = SetUp(has_lists, engine, trackers)
        return self._set_up
