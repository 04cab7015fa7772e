"""One worker of a training by several: ``python -m tfmtl2r.worker JOB``; :mod:`tfmtl2r.runs.team` starts it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tfmtl2r import plugins
from tfmtl2r.errors import UserError
from tfmtl2r.training import distributed, processes
from tfmtl2r.writing import fault_of, one_line


def main(text: str) -> int:
    """Trains as one worker of the cluster that ``TF_CONFIG`` describes.

    Args:
        text: the job as JSON, see :meth:`tfmtl2r.runs.team.Team.train`.

    Returns:
        The exit code. The reason is the last line of standard error.
    """
    job = json.loads(text)
    processes.end_with_parent()
    try:
        strategy = distributed.strategy()  # before anything else that uses TensorFlow
        for files, remember in zip(job["plugins"], (True, False), strict=True):
            plugins.load(*files, remember=remember)
        from tfmtl2r.experiment import Experiment

        folder = None if job["folder"] is None else Path(job["folder"])
        Experiment.of(job["experiment"]).work(strategy, folder, job["verbose"], job["data"])
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if not (isinstance(error, UserError) or fault_of(error)):
            raise
        print(error if isinstance(error, UserError) else one_line(error), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
