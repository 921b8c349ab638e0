"""The map names every module and no other; files that the documentation names exist."""

from __future__ import annotations

import re
from pathlib import Path

import bo_invert

ROOT = Path(bo_invert.__file__).parent
REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "map.md").read_text()


def mapped() -> set[str]:
    """Return the modules of the section on files, as paths without suffix."""
    files = PAGE.split("\n## Files\n")[1].split("\n## Design decisions\n")[0]
    names: set[str] = set()
    for section in files.split("\n### ")[1:]:
        heading, _, body = section.partition("\n")
        package = re.match(r"`(\w+)/`", heading)
        prefix = f"{package[1]}/" if package else ""
        cells = (line.split("|")[1] if line.startswith("|") else line for line in body.split("\n"))
        text = " ".join(cells).partition("`experiments/`")[0]
        names |= {prefix + name for name in re.findall(r"`([\w/]+)`", text)}
    return names


def test_every_module_is_on_the_map() -> None:
    paths = (path.relative_to(ROOT).with_suffix("") for path in ROOT.rglob("*.py"))
    modules = {path.as_posix() for path in paths if not path.name.startswith("__")}
    assert mapped() == modules


def test_every_package_is_on_the_map() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert set(re.findall(r"^\| `(\w+)/` \|", PAGE, re.M)) == packages


def test_files_that_the_documentation_names_exist() -> None:
    pages = [REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md")]
    named = {
        name
        for page in pages
        for name in re.findall(r"\b(?:tests|experiments|notebooks)/[\w/]+\.py\b", page.read_text())
    }
    assert len(named) > 10
    assert [name for name in sorted(named) if not (REPOSITORY / name).exists()] == []
