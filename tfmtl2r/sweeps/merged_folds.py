"""Merges the runs of each fold of cross-validations, and evaluates the merged ranker on the test split of the fold."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfmtl2r.data import Lists
from tfmtl2r.errors import InputError
from tfmtl2r.evaluation.out_of_fold import Part
from tfmtl2r.evaluation.scoring import record, score
from tfmtl2r.names import digest
from tfmtl2r.runs.card import RunCard
from tfmtl2r.runs.identity import MODEL
from tfmtl2r.runs.places import CARD
from tfmtl2r.serving.load import load
from tfmtl2r.sweeps.study import BASELINES
from tfmtl2r.training.merged import merged

Place = tuple[int, int]


def of_fold(folder: Path, fold: str) -> list[Path]:
    """The finished runs of a fold, one per seed.

    Args:
        folder: the folder of a cross-validation.
        fold: name of the fold.

    Raises:
        ValueError: if there is none.
    """
    pattern = re.compile(re.escape(fold) + r"-s\d+")
    runs = sorted(path for path in folder.iterdir() if pattern.fullmatch(path.name) and (path / CARD).is_file())
    if not runs:
        raise InputError(f"{folder} has no run of the fold {fold}: cross-validate it with the same folds, partitions "
                         "and vali first")
    return runs


def parts(name: str, runs: Mapping[Place, Sequence[Path]], tests: Mapping[Place, Lists], folder: Path) -> list[Part]:
    """The merged ranker of each fold. What is evaluated already is not evaluated again.

    Args:
        name: name of the row.
        runs: (partition, fold) -> folders of the runs that become one ranker.
        tests: (partition, fold) -> the lists of its test split.
        folder: the folder of the cross-validation that the values are written to.
    """
    found = []
    for (partition, fold), members in runs.items():
        cards = [RunCard.load(member) for member in members]
        key = digest(f"{[str(card.identity) for card in cards]}")
        where = folder / BASELINES / f"merged-{key}-p{partition}-f{fold}"
        if not (where / CARD).is_file():
            _evaluate(where, name, cards, members, tests[partition, fold])
        found.append(Part(partition, fold, 0, RunCard.load(where).results["test"], where))
    return found


def _evaluate(where: Path, name: str, cards: Sequence[RunCard], members: Sequence[Path], lists: Lists) -> None:
    rankers: list[Any] = [load(member / MODEL) for member in members]
    card = RunCard(where.name, {**cards[0].config, "name": where.name, "directory": str(where.parent), "method": name,
                                "architecture": "merged"})
    card.data = {"test": {"fingerprint": lists.fingerprint()}}
    where.mkdir(parents=True, exist_ok=True)
    record(card, "test", score(merged(rankers), lists, jackknife=True), lists, where)
    card.save(where)  # at last: a folder with a card is finished
