"""Imports follow the README's arrows: export -> experiments -> pkkd_tf -> custom_ops."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ("custom_ops", "pkkd_tf", "experiments", "export")  # each may import those before it
OUTSIDE = ("benchmarks", "docs", "tests")  # no part of the wheel


def imported_names(source):
    """Line and full name of every module that a source imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.lineno, node.module


def wrong_imports(package, root=ROOT):
    """What the modules of a package import against the arrows, as `FILE:LINE: MODULE`."""
    forbidden = {*PACKAGES[PACKAGES.index(package) + 1 :], *OUTSIDE}
    return [
        f"{file.relative_to(root)}:{line}: {name}"
        for file in sorted((root / package).rglob("*.py"))
        for line, name in imported_names(file.read_text(encoding="utf-8"))
        if name.split(".")[0] in forbidden
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_follow_the_arrows(package):
    assert (ROOT / package / "__init__.py").is_file()
    assert wrong_imports(package) == []


def test_a_wrong_import_is_found_wherever_it_stands(tmp_path):
    folder = tmp_path / "experiments" / "report"
    folder.mkdir(parents=True)
    source = (
        "import export_of_others, pkkd_tf\nimport os, export.tflite as t\nfrom . import export\n"
    )
    (folder / "tables.py").write_text(source + "def f():\n    from tests.networks import small\n")
    file = "experiments/report/tables.py"
    assert wrong_imports("experiments", tmp_path) == [
        f"{file}:2: export.tflite",
        f"{file}:5: tests.networks",
    ]


def test_the_readme_names_the_same_arrows():
    arrows = "Arrows point one way: " + " → ".join(reversed(PACKAGES))
    assert arrows in (ROOT / "README.md").read_text(encoding="utf-8")
