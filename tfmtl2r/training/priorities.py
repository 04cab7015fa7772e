"""The tasks' priorities, for a method that asks for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tfmtl2r.methods._base import Method
from tfmtl2r.task import Task


def with_priorities(method: Method, tasks: Sequence[Task]) -> Method:
    """The method, told ``Task.priority`` of the tasks if it asks for priorities and was given none.

    A method asks for them by an option ``priorities``. Where no task has one, the method is left as it is.

    Args:
        method: any method.
        tasks: all tasks of a ranker.

    Raises:
        ValueError: when some tasks have a priority and others do not.
    """
    priorities = tuple(task.priority for task in tasks)
    asks = getattr(method, "priorities", None) == () and not getattr(method, "bounds", ())
    if not asks or all(priority is None for priority in priorities):
        return method
    without = [task.name for task in tasks if task.priority is None]
    if without:
        raise ValueError(f"task {without[0]!r} has no priority but others have one: give all tasks a priority, or none "
                         "for the listed order")
    return dataclasses.replace(method, priorities=priorities)  # type: ignore[call-arg]
