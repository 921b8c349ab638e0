"""Provenance of a study: package versions and hashes of oracle and decoder, without paths."""

from __future__ import annotations

import functools
import inspect
import platform
import sys
import types
from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bo_invert import __version__
from bo_invert.errors import deprecated_names, warn_user
from bo_invert.hashing import Digest, is_installed
from bo_invert.problems.git import commit_of
from bo_invert.types import JSON

if TYPE_CHECKING:
    from bo_invert.oracles.base import Oracle
    from bo_invert.spaces.base import Space

_PACKAGES = ("numpy", "scipy", "torch", "gpytorch", "botorch")
"""Packages whose versions affect proposals."""
# Length in characters of a stored text. Engineering choice: headers stay small.
_MAX_LENGTH = 200


def provenance(oracle: Oracle | None, space: Space | None = None) -> JSON:
    """Return the provenance for a study header, without calls and heavy imports.

    Args:
        oracle: oracle of the problem; None if designs are evaluated elsewhere.
        space: space of the problem.
    """
    made = {
        "python": platform.python_version(),
        "packages": {
            "bo_invert": __version__,
            **{name: found for name in _PACKAGES if (found := version_of(name))},
        },
        "oracle": None if oracle is None else _about(oracle),
    }
    decoder = None if space is None else space.digest()
    return made if decoder is None else made | {"decoder": _noted(decoder)}


def _about(oracle: Oracle) -> JSON:
    known, inside = oracle.digest(), oracle.implementation
    while isinstance(inside, functools.partial):
        inside = inside.func
    library = _top_module(inside)
    version = version_of(library)
    file = None if inside is oracle and library == "bo_invert" else _source_file(inside)
    return {
        "name": _clipped(str(getattr(inside, "__qualname__", type(inside).__qualname__))),
        "type": _clipped(str(oracle.to_json()["type"])),
        **({"sha256": None, "of": None} if known is None else _noted(known)),
        "library": {library: version} if version and library != "bo_invert" else {},
        "file": None if file is None else _clipped(file.name),
        "commit": None if file is None else commit_of(file),
    }


def _noted(known: Digest) -> dict[str, JSON]:
    return {"sha256": known.sha256, "of": _clipped(known.of)}


def _source_file(thing: object) -> Path | None:
    """Return the user's source file of a function or of an object's class; None for libraries."""
    code: Any = (
        inspect.unwrap(thing)
        if isinstance(thing, types.FunctionType)
        else getattr(thing, "__func__", None)
    )
    code = code or (thing if isinstance(thing, type) else type(thing))
    with suppress(TypeError):  # code without a file
        path = Path(inspect.getsourcefile(code) or "")
        return path if path.is_file() and not is_installed(code) else None
    return None


def _top_module(thing: object) -> str:
    """Return the top-level package of a function or of an object's class."""
    return str(getattr(thing, "__module__", None) or type(thing).__module__).partition(".")[0]


@functools.cache
def version_of(package: str) -> str | None:
    """Return the version of an imported package; None for user files and the standard library."""
    if package in sys.stdlib_module_names or package == "__main__":
        return None
    try:
        return metadata.version(package)
    except (metadata.PackageNotFoundError, ValueError):  # the distribution has another name
        version = getattr(sys.modules.get(package), "__version__", None)
        return version[:_MAX_LENGTH] if isinstance(version, str) else None


def changes(begun: JSON, now: JSON) -> list[str]:
    """List changes that affect the continuation of a study, one clause each.

    Args:
        begun: stored provenance; None if the header has none.
        now: present provenance.
    """
    found = []
    then, here = noted(begun), noted(now)
    for what in ("oracle", "decoder"):
        old, new = then.get(what) or {}, here.get(what) or {}
        if old.get("sha256") and new.get("sha256") and old["sha256"] != new["sha256"]:
            found.append(
                f"the {what} is another: sha256 {old['sha256'][:12]} ({old['of']}) then, "
                f"{new['sha256'][:12]} ({new['of']}) now"
            )
    versions = [
        {
            "Python": one.get("python"),
            **one.get("packages", {}),
            **(one.get("oracle") or {}).get("library", {}),
        }
        for one in (then, here)
    ]
    for name in versions[0]:
        before, after = versions[0][name], versions[1].get(name)
        if before and after and _major(before) != _major(after):
            found.append(f"{name} was {before}, is {after}")
    return found


def warn_of_changes(name: str, begun: JSON, oracle: Oracle | None, space: Space) -> None:
    """Warn if a study continues with another oracle, decoder or package version."""
    if oracle is None or not noted(begun):
        return
    if found := changes(begun, provenance(oracle, space)):
        warn_user(
            f"study {name!r} continues with changes: {'; '.join(found)}. If outputs differ from "
            "earlier ones, create a new study and transfer valid observations with study.add().",
        )


def noted(header: JSON) -> dict[str, Any]:
    """Validate a stored provenance; return an empty dict if it is malformed."""
    try:
        texts = [header.get("python"), *header["packages"].values()]
        oracle, decoder = header.get("oracle"), header.get("decoder")
        if decoder is not None:
            texts += [decoder.get(key) for key in ("sha256", "of")]
        if (source := header.get("source")) is not None:
            texts += [source["study"], source.get("id"), str(int(source["trials"]))]
        if oracle is not None:
            keys = ("name", "type", "sha256", "of", "file", "commit")
            texts += [*oracle["library"].values(), *(oracle.get(key) for key in keys)]
    except (
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
    ):  # a part is not a mapping, or is missing
        return {}
    return dict(header) if all(isinstance(text, (str, type(None))) for text in texts) else {}


def provenance_rows(header: JSON) -> list[tuple[str, str]]:
    """Return a provenance as (label, text) rows; empty if the header has none."""
    known = noted(header)
    if not known:
        return []
    facts = [("made with", _listed({"Python": known["python"], **known["packages"]}))]
    if oracle := known.get("oracle"):
        places = {key: oracle[key] for key in ("file", "commit") if oracle.get(key)}
        where = _listed({**oracle["library"], **places})
        name = (
            oracle["name"]
            if oracle["name"].lower() == oracle["type"]
            else f"{oracle['type']} {oracle['name']}"
        )
        digest = (
            f"sha256 {oracle['sha256']} of the {oracle['of']}"
            if oracle.get("sha256")
            else "sha256 unknown"
        )
        facts.append(("oracle", name + (f" ({where})" if where else "")))
        facts.append(("fingerprint", digest))
    decoder = known.get("decoder")
    if decoder and decoder.get("sha256"):
        facts.append(("decoder", f"sha256 {decoder['sha256']} of the {decoder.get('of')}"))
    if source := known.get("source"):
        facts.append(("observations of", f"study {source['study']}, {source['trials']} trials"))
    return facts


def _listed(facts: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items())


def _major(version: str) -> tuple[str, ...]:
    """Return the part of a version that marks incompatible changes: 0.1 of 0.1.3, 2 of 2.4.1."""
    parts = version.split("+")[0].split(".")
    return tuple(parts[:2] if parts[0] == "0" else parts[:1])


def _clipped(text: str) -> str:
    return text[:_MAX_LENGTH].encode("utf-8", "backslashreplace").decode()


__getattr__ = deprecated_names(globals(), {"told": "provenance_rows"})
