"""One ranker, exported once for all tests."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from serving_problem import SCHEMA, make_ranker, rows

import tfmtl2r
from tfmtl2r.serving.session import LoadedExport


@dataclasses.dataclass
class Exported:
    ranker: Any
    folder: Path
    loaded: LoadedExport

    def run(self, request, signature="serving_default"):
        return self.loaded.run(signature, request)


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    ranker = make_ranker()
    folder = tfmtl2r.export(ranker, tmp_path_factory.mktemp("export") / "model", rows=rows(SCHEMA))
    with LoadedExport(folder) as loaded:
        yield Exported(ranker, folder, loaded)
