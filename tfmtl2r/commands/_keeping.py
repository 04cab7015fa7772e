"""Commands that read runs print their results also where nothing can be written."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from tfmtl2r.runs.lock import BusyError
from tfmtl2r.writing import fault_of, one_line


@contextlib.contextmanager
def kept(what: str) -> Iterator[None]:
    """Prints one line instead of an error if the block cannot write its files, or another process works on the run.

    Args:
        what: what the block writes, such as ``"the result"``.
    """
    try:
        yield
    except BusyError as error:
        reason = str(error)
    except OSError as error:
        if not fault_of(error):
            raise
        reason = one_line(error)
    else:
        return
    print(f"{what} is printed and not kept: {reason}", file=sys.stderr)
