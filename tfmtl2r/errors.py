"""Errors that a user can fix: the command line shows their message in one line, without a traceback.

Every error that this library raises on purpose is one of these classes. Each of them is also the built-in exception
that Python programs expect, so that ``except ValueError`` works as usual.
"""

from __future__ import annotations

__all__ = ["DamagedError", "InputError", "InputKeyError", "InputTypeError", "MissingFileError", "MissingPackageError",
           "NotAFolderError", "NotDefinedError", "NotFiniteError", "Stopped", "UserError", "WorkerError"]


class UserError(Exception):
    """Base class of all errors in the input or the setup of a user."""

    _keras_call_info_injected = True
    """Else Keras adds lines to an error of a layer: the layer's name and all arguments of its call."""


class InputError(UserError, ValueError):
    """A value that cannot be used."""


class DamagedError(InputError):
    """A file of an earlier training that cannot be read."""


class InputTypeError(UserError, TypeError):
    """An argument of the wrong type, or an option that does not exist."""


class InputKeyError(UserError, KeyError):
    """A name that something does not contain.

    >>> str(InputKeyError("feature 'price' is missing"))
    "feature 'price' is missing"
    """

    def __str__(self) -> str:
        """The message itself; ``KeyError`` would put it in quotes."""
        return str(self.args[0]) if self.args else ""


class NotDefinedError(UserError, NotImplementedError):
    """A method that a class lacks, although its kind needs it."""


class MissingFileError(UserError, FileNotFoundError):
    """A file that does not exist, or a folder without the expected file."""


class NotAFolderError(UserError, NotADirectoryError):
    """A file where a folder is needed."""


class NotFiniteError(UserError, ArithmeticError):
    """A loss, a gradient or a weight that is NaN or infinite."""


class MissingPackageError(UserError, ImportError):
    """A package that must be installed first, or is installed in a version that does not work."""


class WorkerError(UserError, RuntimeError):
    """A worker of a training that has ended too early."""


class Stopped(KeyboardInterrupt):
    """Ctrl-C, with a message that contains what is kept and how to go on."""


def not_defined(thing: object, name: str) -> NotDefinedError:
    """The error of a method or property that every class of a kind has to define.

    Args:
        thing: an instance of the class that lacks it.
        name: the method.

    >>> str(not_defined(object(), "compute"))
    'object does not define compute, which its kind needs: the docstring in the base class explains what it returns'
    """
    return NotDefinedError(f"{type(thing).__name__} does not define {name}, which its kind needs: the docstring in the "
                           "base class explains what it returns")
