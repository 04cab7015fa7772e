"""Proposals for misspelt names, reserved names, and the names of logged values."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from tfmtl2r.errors import InputError

ALL = "all"
"""The TensorBoard group of the values that belong to all tasks."""
BLEND = "blend"
"""The class that ``classify`` returns beside the tasks, for the blended score."""
STOP_ON = "stop_on"
"""The quantity that early stopping compares."""
STOP_ON_ALONG = "stop_on_along"
"""The mean of :data:`STOP_ON` over several preferences, for preference-conditioned rankers."""
STAGED = ("full_loss", "violation", "multiplier")
"""The values that staged training logs for each task beside its ``loss``."""
GROUPS = ("weights", "gradient_norm", "gradient_cosine", "conflict_rate", "method", "solver", "multiplier",
          "loss_ratio", "inside", "gate_entropy")
"""TensorBoard groups of values that are measured in training steps."""

_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(10))}
_VALIDATION = "val_"
_OF_ALL = ("loss", STOP_ON, STOP_ON_ALONG, "stage", "kept")
_TASKS: Mapping[str, str] = {
    ALL: "TensorBoard shows the values of all tasks under this name",
    BLEND: "the classify signature of an export returns the blended score under this name",
    "val": "Keras puts 'val_' before the names of validation values",
    **{group: f"TensorBoard shows measurements of training steps under {group}/" for group in GROUPS},
}
_FORMAT_1 = {"blend": STOP_ON, "val_blend": f"val_{STOP_ON}", "val_blend_along": f"val_{STOP_ON_ALONG}"}


def did_you_mean(name: object, known: Iterable[object], most: int = 1) -> str:
    """The end of an error message that proposes known names.

    Args:
        name: the unknown name.
        known: the names that exist.
        most: how many names to propose at most, the nearest first.

    Returns:
        ``"; did you mean 'x'?"``, or an empty string if no known name is near.

    >>> did_you_mean("prise", ["price", "size"]), did_you_mean("colour", ["price", "size"])
    ("; did you mean 'price'?", '')
    """
    near = difflib.get_close_matches(str(name), [str(other) for other in known], n=most)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


def with_article(noun: str) -> str:
    """A noun behind its indefinite article.

    >>> with_article("method"), with_article("architecture")
    ('a method', 'an architecture')
    """
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def safe_name(name: str) -> str:
    """A name that is valid for variables, layers, files and signatures, from any text.

    The name keeps letters, digits and underscores. A name with other characters gets a digest, so that different names
    stay different.

    >>> safe_name("brand"), safe_name("Product Type"), safe_name("a/b")
    ('brand', 'Product_Type_f123dc0e', 'a_b_c14cddc0')
    """
    clean = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return clean if clean == name else f"{clean}_{digest(name)}"


def refuse_equal_keys(names: Iterable[str], what: str) -> None:
    """Refuses names that would be equal in files and signatures (:func:`safe_name`).

    Args:
        names: different names.
        what: what has the names, such as ``"tasks"``.

    Raises:
        ValueError: if one name is the safe name of another.

    >>> refuse_equal_keys(["a/b", "a_b_c14cddc0"], "tasks")
    Traceback (most recent call last):
    tfmtl2r.errors.InputError: the tasks 'a/b' and 'a_b_c14cddc0' would both be called 'a_b_c14cddc0' in files; ...
    """
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(safe_name(name), name)
        if other != name:
            raise InputError(f"the {what} {other!r} and {name!r} would both be called {safe_name(name)!r} in files; "
                             "rename one of them")


def digest(name: str) -> str:
    """Eight characters that differ between names.

    >>> digest("a/b")
    'c14cddc0'
    """
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def served_as(name: str, reserved: Iterable[str] = ()) -> str:
    """The name of a feature's input in signatures, if no other feature has this name.

    In names that TensorFlow does not allow, each character that is no letter, digit or underscore becomes ``_``. A name
    that does not start with a letter, or is reserved, gets the prefix ``feature_``.

    >>> served_as("price"), served_as("BM25 body"), served_as("1"), served_as("k", ["k"])
    ('price', 'BM25_body', 'feature_1', 'feature_k')
    """
    clean = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return clean if clean[:1].isalpha() and clean not in {*reserved, "self"} else f"feature_{clean}"


def checked(name: object, kind: str, reserved: Mapping[str, str] | None = None) -> str:
    """Returns a name that a user gave, or refuses the name.

    Args:
        name: the name.
        kind: what has the name, such as ``"task"``; error messages start with it.
        reserved: names that are taken, each with the reason.

    Raises:
        ValueError: for a name that is not a text, is empty, contains a control character or is reserved.

    >>> checked("price", "feature", {"list_size": "it is the number of items"})
    'price'
    """
    if not isinstance(name, str) or not name:
        raise InputError(f"{kind} name {name!r}: expected text with at least one character")
    if bad := next((letter for letter in name if unicodedata.category(letter) in ("Cc", "Cs")), ""):
        what = "control character" if unicodedata.category(bad) == "Cc" else "half of a character"
        raise InputError(f"{kind} name {name!r}: the {what} {bad!r} is not allowed")
    if reserved and name in reserved:
        raise InputError(f"a {kind} may not be called {name!r}: {reserved[name]}. Choose another name")
    return name


def checked_folder(name: object, kind: str) -> str:
    """Returns a name that is a plain name of one folder, or refuses the name.

    Args:
        name: the name.
        kind: what has the name, such as ``"model"``.

    Raises:
        ValueError: for a path, surrounding spaces, a point at the end, a device of Windows, and the names that
            :func:`checked` refuses.

    >>> checked_folder("../shop", "model")
    Traceback (most recent call last):
    tfmtl2r.errors.InputError: model name '../shop': expected the plain name of one folder, without / and \\ and :
    and a point at its end, and no device of Windows such as nul
    """
    text = checked(name, kind)
    if text != text.strip() or text.endswith(".") or {"/", "\\", ":"} & {*text} or \
            text.split(".")[0].rstrip().lower() in _DEVICES:
        raise InputError(f"{kind} name {name!r}: expected the plain name of one folder, without / and \\ and "
                         ": and a point at its end, and no device of Windows such as nul")
    return text


def checked_task(name: object) -> str:
    """Returns the name of a task, or refuses a name that is ambiguous in logs or exports.

    Raises:
        ValueError: see :func:`checked`.

    >>> checked_task("val_click")
    Traceback (most recent call last):
    tfmtl2r.errors.InputError: a task may not be called 'val_click': Keras puts 'val_' before the names of validation
    values. Choose another name
    """
    text = checked(name, "task", _TASKS)
    return checked(text, "task", {text: _TASKS["val"]} if text.startswith(_VALIDATION) else None)


@dataclasses.dataclass(frozen=True)
class LogName:
    """The name of one value in the logs of ``fit``, in the history of a run card and in TensorBoard.

    Args:
        quantity: the measured quantity, for example ``"loss"`` or ``"ndcg@5"``.
        task: the task; an empty string for a value of all tasks.
        validation: True for a value of the validation split, False for a value of training.

    >>> str(LogName("ndcg@5", "click", validation=True)), str(LogName("loss"))
    ('val_click_ndcg@5', 'loss')
    >>> LogName.parse("val_click_ndcg@5", ["click"])
    LogName(quantity='ndcg@5', task='click', validation=True)
    """

    quantity: str
    task: str = ""
    validation: bool = False

    def __str__(self) -> str:
        """The name as Keras shows it, such as ``val_click_ndcg@5``."""
        return f"{_VALIDATION * self.validation}{self.task}{'_' * bool(self.task)}{self.quantity}"

    @property
    def tag(self) -> str:
        """The TensorBoard tag, such as ``click/ndcg@5`` or ``all/loss``; each split is a TensorBoard run of its own."""
        return f"{self.task or ALL}/{self.quantity}"

    @classmethod
    def parse(cls, text: str, tasks: Iterable[str]) -> LogName:
        """Takes a name apart.

        Args:
            text: what :meth:`__str__` returns.
            tasks: the names of all tasks. The longest matching name is used; :func:`refuse_ambiguous` ensures that this
                is correct.
        """
        rest = text.removeprefix(_VALIDATION)
        fitting = [] if rest in _OF_ALL else [task for task in tasks if rest.startswith(f"{task}_")]
        task = max(fitting, key=len, default="")
        return cls(rest.removeprefix(f"{task}_") if task else rest, task, text != rest)


def refuse_ambiguous(quantities: Mapping[str, Sequence[str]]) -> None:
    """Refuses tasks with equal log names.

    Args:
        quantities: task -> quantities that are logged beside its loss, for example the labels of its metrics.

    Raises:
        ValueError: if two log names are equal; the message contains the name and both tasks.

    >>> refuse_ambiguous({"click": ["auc"], "click_log": ["auc"]})
    >>> refuse_ambiguous({"click": ["log_loss"], "click_log": ["auc"]})
    Traceback (most recent call last):
    tfmtl2r.errors.InputError: the log name 'click_log_loss' could mean 'log_loss' of task 'click' or 'loss' of task
    'click_log': rename one of them
    """
    for task, labels in quantities.items():
        for quantity in ("loss", *labels):
            name = LogName(quantity, task)
            read = LogName.parse(str(name), quantities)
            if read != name:
                other = f"{read.quantity!r} of {f'task {read.task!r}' if read.task else 'all tasks'}"
                raise InputError(f"the log name '{name}' could mean {quantity!r} of task {task!r} or {other}: rename "
                                 "one of them")


def current(name: str) -> str:
    """Converts a log name from a run card of format 1 to its current name.

    >>> current("val_blend"), current("val_click_loss")
    ('val_stop_on', 'val_click_loss')
    """
    return _FORMAT_1.get(name, name)
