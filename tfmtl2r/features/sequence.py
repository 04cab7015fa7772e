"""Sequences: the history of a user or an item, ordered, with side columns."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import numpy as np

from tfmtl2r.errors import InputError
from tfmtl2r.features._listed import Listed
from tfmtl2r.features.base import Columns, Feature, Values, names_things
from tfmtl2r.features.category import Category
from tfmtl2r.features.dense import Dense
from tfmtl2r.names import did_you_mean
from tfmtl2r.registry import Card
from tfmtl2r.schema import KINDS

CARD = Card(
    title="Sequence",
    paper="DIN: Zhou et al. 2018, https://arxiv.org/abs/1706.06978; SASRec: Kang and McAuley 2018, "
    "https://arxiv.org/abs/1808.09781",
    note="a history of ids, newest last; mean, last, attention of the candidate item (DIN), or a small transformer",
)
__all__ = ["Sequence"]
_LONGEST = 4
log = logging.getLogger("tfmtl2r")
_TRANSFORMER = ("blocks", "heads", "residual", "dropout")
_ATTENTION = {"attention": ("normaliser", "scale"), "target_attention": ("normaliser", "scale", "units", "activation")}


@dataclasses.dataclass(frozen=True)
class Sequence(Listed, Category):
    """A history of ids, newest last, such as the videos that a user has watched.

    Args:
        name: column and serving input; :mod:`tfmtl2r.data.ragged` describes the cells.
        vocabulary, buckets, dim, context, dtype, shares, min_count: as in :class:`tfmtl2r.Category`.
        pooling: a name, or a dict with ``name`` and options:

            ``"mean"``, ``"sum"``, ``"sqrtn"``, ``"max"``, ``"last"``
                the pooled embeddings, as for a :class:`tfmtl2r.features.Bag`, or the newest one.
            ``"attention"``
                the sum with weights ``softmax(h_m . q / sqrt(d))``, where q is the embedding of the candidate item, the
                feature that ``shares`` names. Options as in :class:`tfmtl2r.layers.target_attention.DotAttention`.
            ``"target_attention"``
                the sum with weights ``MLP([q, h_m, q - h_m, q * h_m])`` (DIN). Options as in
                :class:`tfmtl2r.layers.target_attention.TargetAttention`. Without a normaliser, the sum grows with the
                length of the history.

            With ``blocks`` above 0, a transformer comes before the pooling; its options are those of
            :class:`tfmtl2r.layers.history_transformer.HistoryTransformer`.
        side: columns with a value for each id, such as time gaps or actions. Numbers (logarithmic, standardised) and
            categories are appended to the embeddings, and the MLP of target attention and a transformer read them.
        max_length: number of ids that count, the newest ones.
        separator: splits a cell of text; empty to choose it from each column.
        separators: the separator of each column, fitted on the training split.
        missing: add a component that is 1 for an empty history.
        sides: kind and fitted statistics of each side column; fitted on the training split.

    >>> Sequence("watched", vocabulary=("a", "b"), dim=8, pooling="last").width  # with the one for an empty history
    9
    """

    pooling: str | Mapping[str, Any] = "mean"
    side: tuple[str, ...] = ()
    max_length: int | None = 50
    separator: str = ""
    separators: tuple[str, ...] = ()
    missing: bool = True
    sides: tuple[Mapping[str, Any], ...] = ()

    keeps_newest: ClassVar[bool] = True
    after_lookup: ClassVar[tuple[str, ...]] = (*Category.after_lookup, "sides")
    file_keys: ClassVar[tuple[str, ...]] = (
        *Category.file_keys, "pooling", "side", "max_length", "missing", "separator")
    poolings: ClassVar[tuple[str, ...]] = ("mean", "sum", "sqrtn", "max", "last", *_ATTENTION)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "separators", tuple(self.separators))
        object.__setattr__(self, "side", (self.side,) if isinstance(self.side, str) else tuple(self.side))
        object.__setattr__(self, "sides", tuple(dict(side) for side in self.sides))
        if self.max_length is None:
            raise InputError(f"feature {self.name!r}: max_length must be a number, the most ids that count")
        self.checked_length()
        how = {"name": self.pooling} if isinstance(self.pooling, str) else dict(self.pooling)
        if how.get("name") not in self.poolings:
            raise InputError(f"feature {self.name!r}: pooling must be one of {', '.join(self.poolings)}, "
                             f"not {how.get('name')!r}")
        known = (*_TRANSFORMER, *_ATTENTION.get(how["name"], ()))
        for option in how.keys() - {"name", *known}:
            raise InputError(f"feature {self.name!r}: pooling {how['name']!r} has no option {option!r}"
                             f"{did_you_mean(option, known)}; its options: {', '.join(known)}")
        if len(how) > 1:
            plain = {key: list(value) if isinstance(value, tuple) else value for key, value in how.items()}
            object.__setattr__(self, "pooling", plain)
        if how["name"] in _ATTENTION and not self.shares:
            raise InputError(f"feature {self.name!r}: pooling {how['name']!r} compares with the candidate item: set "
                             "shares to the feature with the item's id")

    @property
    def how(self) -> str:
        """The name of the pooling."""
        return self.pooling if isinstance(self.pooling, str) else self.pooling["name"]

    @property
    def side_features(self) -> tuple[Feature, ...]:
        """A feature for each side column; it describes one element of the list."""
        made = []
        for side in self.sides:
            options = {key: value for key, value in side.items() if key != "kind"}
            made.append(KINDS.constructor(side["kind"])(**options))
        return tuple(made) or tuple(Dense(name) for name in self.side)

    @property
    def inside(self) -> tuple[Feature, ...]:
        """The side columns."""
        return self.side_features

    @property
    def target(self) -> str:
        """The candidate, for a pooling that compares with it."""
        return self.shares if self.how in _ATTENTION else ""

    @property
    def width(self) -> int:
        """Width of the embedding and, without a transformer, of the side columns; and one for the indicator."""
        sides = 0 if self._options(_TRANSFORMER).get("blocks") else sum(side.width for side in self.side_features)
        return self.table_width + sides + self.missing

    @property
    def listed(self) -> dict[str, Values]:
        """The ids and the values of the side columns."""
        sides = {side.name: side.raw[side.name] for side in self.side_features}
        return {self.name: Values(self.dtype), **sides}

    @property
    def looked_up(self) -> dict[str, Values]:
        """Ids become rows of tables."""
        sides = {side.name: Values(side.looked_up[side.name].dtype, (None,)) for side in self.side_features}
        return {**self.raw, self.name: Values("int32", (None,)), **sides}

    @classmethod
    def inferred(
        cls, name: str, values: np.ndarray, context: bool, sizes: np.ndarray | None = None
    ) -> Self | None:
        """A history must be declared; the order of a list is not visible."""
        return None

    def joined(self, owner: Feature) -> Self:
        """As for a category; a candidate must have the plain embedding of the table."""
        if self.target and type(owner) is not Category:
            raise InputError(f"feature {self.name!r}: the candidate {owner.name!r} must be a category")
        return super().joined(owner)

    def continued(self, earlier: Self, keep: bool) -> Self:
        """As for a category; vocabularies of side columns grow, too."""
        if self.side != earlier.side:  # also in another order
            raise InputError(f"feature {self.name!r}: side is {self.side!r}, but {earlier.side!r} in the earlier run: "
                             "a warm start needs the same columns in the same order")
        pairs = zip(self.side_features, earlier.side_features, strict=True)
        sides = tuple(_plain(mine.continued(theirs, keep)) for mine, theirs in pairs)
        found = super().continued(dataclasses.replace(earlier, sides=self.sides), keep)
        return dataclasses.replace(found, sides=sides)

    def fit(self, columns: Columns, min_count: int) -> Self:
        """Fits the vocabulary on all ids, and the side columns on all their values."""
        fitted = self.split(columns)
        if self.side and not self.sides:
            sides = tuple(fitted._fitted(columns, name, min_count) for name in self.side)
            fitted = dataclasses.replace(fitted, sides=sides)
        if self.shares:
            return fitted
        ids, sizes = columns.elements(self.name, fitted.separator_of(self.name))
        if sizes.any():
            return super(Sequence, fitted).fit(ids, min_count)
        return fitted if self.vocabulary is not None else dataclasses.replace(fitted, buckets=self.buckets or 1)

    def _fitted(self, columns: Columns, name: str, min_count: int) -> Mapping[str, Any]:
        """Kind and statistics of a side column."""
        cells, sizes = columns.elements(name, self.separator_of(name))
        if not sizes.any():  # nothing tells what the values are
            log.warning("feature %r: the side column %r is empty in the training split, and counts as numbers",
                        self.name, name)
            return _plain(Dense(name, mean=(0.0,), variance=(1.0,), transform="signed_log1p"))
        try:
            values = cells.numbers(name)
        except InputError:
            values = cells.identities(name)
        kind: type[Feature] = Category if names_things(values) else Dense
        side = kind.of_entry(name, values, False,
                             {"transform": "signed_log1p"} if kind is Dense else {"hash": self.hash})
        return _plain(side.fit(cells, min_count))

    # A graph

    def lookups(self) -> dict[str, Any]:
        """The lookups of the ids and of side columns with names."""
        sides = {name: lookup for side in self.side_features for name, lookup in side.lookups().items()}
        return {**super().lookups(), **sides}

    def layer(self, dtype: Any, others: Mapping[str, Any]) -> Any:
        """The table, the layers of side columns, and those of the pooling."""
        from tfmtl2r.layers.history import History
        from tfmtl2r.layers.history_transformer import HistoryTransformer
        from tfmtl2r.layers.target_attention import DotAttention, TargetAttention

        made = {side.name: side.layer(dtype, {}) for side in self.side_features}
        sides, width = sum(side.width for side in self.side_features), self.table_width
        blocks, options = self._options(_TRANSFORMER), self._options(_ATTENTION.get(self.how, ()))
        transformer, attention = None, None  # type: Any, Any
        if blocks.get("blocks"):
            assert self.max_length is not None
            transformer = HistoryTransformer(
                width, self.max_length, sides, **blocks, dtype="float32", name="transformer")
        if self.how == "target_attention":
            side_width = 0 if transformer else sides
            attention = TargetAttention(width, side_width, **options, dtype="float32", name="attention")
        elif self.how == "attention":
            attention = DotAttention(width, **options, dtype="float32", name="attention")
        table = super().layer(dtype, others)
        return History(table, {name: one for name, one in made.items() if one is not None}, transformer, attention,
                       dtype=dtype, name=f"history_{self.key}")

    def _options(self, names: tuple[str, ...]) -> dict[str, Any]:
        how = {} if isinstance(self.pooling, str) else self.pooling
        return {name: how[name] for name in names if name in how}

    def encode(self, tensors: Mapping[str, Any], layers: Mapping[str, Any]) -> Any:
        """The pooled history, and the indicator of an empty one."""
        from tfmtl2r._backend import tf
        from tfmtl2r.layers.pooling import POOLINGS

        rows, sides, valid = self._rows(tensors, layers)
        both = rows if sides is None else tf.concat([rows, sides], axis=-1)
        return self._marked(POOLINGS[self.how](both, tf.cast(valid, tf.float32)), valid)

    def compare(
        self, tensors: Mapping[str, Any], target: Any, layers: Mapping[str, Any], repeated: Callable[[Any], Any]
    ) -> Any:
        """The sum of the history with the attention of the candidate, and the indicator of an empty history."""
        from tfmtl2r._backend import tf
        from tfmtl2r.layers.pooling import weighted_sum

        rows, sides, valid = self._rows(tensors, layers)
        weights = layers[self.name].attention(rows, target, valid, repeated=repeated, sides=sides)
        both = rows if sides is None else tf.concat([rows, sides], axis=-1)
        return self._marked(weighted_sum(repeated(both), weights), repeated(valid))

    def _rows(self, tensors: Mapping[str, Any], layers: Mapping[str, Any]) -> tuple[Any, Any, Any]:
        """Embeddings, side values (None without them, or within the embeddings) and real places."""
        from tfmtl2r._backend import tf
        from tfmtl2r.layers.pooling import rows_of

        mine, valid = layers[self.name], self.mask(tensors)
        rows = rows_of(self.table(layers), tensors[self.name], valid)
        sides = None
        if self.side:
            shape = tf.shape(tensors[self.name])
            encoded = []
            for side in self.side_features:
                flat = tf.reshape(tensors[side.name], [-1])
                [value] = type(side).encode_all([side], {side.name: flat}, mine.by_side)
                encoded.append(tf.reshape(tf.cast(value, tf.float32), [shape[0], shape[1], side.width]))
            sides = tf.concat(encoded, axis=-1) * tf.cast(valid, tf.float32)[..., None]
        if mine.transformer is None:
            return rows, sides, valid
        return mine.transformer(rows, valid, sides=sides), None, valid

    def _marked(self, pooled: Any, valid: Any) -> Any:
        from tfmtl2r._backend import tf

        empty = tf.cast(~tf.reduce_any(valid, axis=1, keepdims=True), pooled.dtype)
        return tf.concat([pooled, empty], axis=-1) if self.missing else pooled

    # A request

    def example(self, shape: tuple[int, ...], random: np.random.Generator) -> dict[str, np.ndarray]:
        """Known ids, with side values."""
        length = min(int(random.integers(1, _LONGEST, endpoint=True)), self.max_length or _LONGEST)
        found = super().example((*shape, length), random)
        for side in self.side_features:
            found |= side.example((*shape, length), random)
        return self.sized(found, shape, random)

    def unknown(self) -> dict[str, Any]:
        """An empty history."""
        return {name: values.missing for name, values in self.raw.items()}

    def hidden(self, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """With hash, one value in place of all ids, and of all names in side columns."""
        for side in self.side_features:
            values = {**values, **side.hidden({side.name: values[side.name]})}
        return super().hidden(values)

    def written(self, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Replaces missing side values, since JSON has no NaN."""
        for side in self.side_features:
            values = {**values, **side.written({side.name: values[side.name]})}
        return values


def _plain(side: Feature) -> dict[str, Any]:
    """Kind and options of a side column, as in :attr:`Sequence.sides`."""
    options = {key: list(value) if isinstance(value, tuple) else value for key, value in vars(side).items()}
    return {"kind": KINDS.name_of(type(side)), **options}
