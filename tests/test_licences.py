"""Licences: everything that comes with the package or with its extras has a licence of a short list."""

import importlib.metadata
import re

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ALLOWED = re.compile(
    r"Apache(-2\.0| License,? (Version |v)?2\.0| 2\.0| Software License)"
    r"|(3-Clause )?BSD([ -][23]-Clause)?( License)?|0BSD|MIT(-0|-CMU)?( License)?|ISC|Zlib|CC0-1\.0|Unlicense"
    r"|PSF-2\.0|Python Software Foundation License"
    r"|MPL-2\.0|Mozilla Public License 2\.0 \(MPL 2\.0\)"  # its terms end at the file
    r"|LGPL-2\.1-or-later"  # it is imported, not copied
)
WITHOUT_METADATA = {"namex": "Apache-2.0"}
"""Distributions whose metadata name no licence, with the licence in their repository."""


def closure(name):
    """Installed distributions that a distribution requires with its extras for users, and what they require."""
    extras = frozenset(importlib.metadata.metadata(name).get_all("Provides-Extra")) - {"dev", "docs"}
    waiting, found = [(name, extras)], {}
    while waiting:
        key = waiting.pop()
        if key in found:
            continue
        try:
            found[key] = importlib.metadata.distribution(key[0])
        except importlib.metadata.PackageNotFoundError:
            continue  # of an extra that is not installed here, or for another system
        for requirement in map(Requirement, found[key].requires or ()):
            if requirement.marker is None or any(requirement.marker.evaluate({"extra": e}) for e in key[1] or [""]):
                waiting.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    return {key[0]: distribution for key, distribution in found.items()}


def licences(name, metadata):
    """The names of the licences of a distribution, of which each has to be allowed."""
    if expression := metadata.get("License-Expression"):
        return re.split(r"\s+(?:AND|OR)\s+", expression)
    given = [line.rpartition(" :: ")[2] for line in metadata.get_all("Classifier") or () if line.startswith("License")]
    text = (metadata.get("License") or WITHOUT_METADATA.get(name, "")).strip()
    return given or re.split(r"\s+(?:AND|OR)\s+", text.partition("\n")[0])


def test_every_licence_is_allowed():
    found = {name: licences(name, distribution.metadata) for name, distribution in closure("tfmtl2r").items()}
    assert {"tensorflow", "keras", "numpy", "moocore"} <= set(found)
    refused = {name: given for name, given in found.items() if not all(map(ALLOWED.fullmatch, given))}
    assert not refused, f"licences outside the list in this file: {refused}"


def test_other_licences_are_refused():
    for text in ("GPL-3.0-or-later", "GNU Affero General Public License v3", "Proprietary", ""):
        assert not ALLOWED.fullmatch(text)
