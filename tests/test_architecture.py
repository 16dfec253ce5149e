"""Imports go one way: each part of the package may use the parts below it and no others."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

BELOW: dict[str, set[str]] = {
    "files": set(),
    "errors": {"files"},
    "types": set(),
    "records": {"errors", "types"},
    "registry": {"errors"},
    "linearity": set(),
    "relu_rules": {"errors", "linearity"},
    "signals": {"relu_rules"},
    "metrics": {"errors", "registry", "types"},
    "methods": {"errors", "registry", "signals", "relu_rules"},
    "data": {"errors", "files", "registry", "types"},
    "nets": {"errors", "registry", "types"},
    "engine": {"errors", "types", "methods", "signals", "relu_rules"},
    "study": {"errors", "files", "types", "data", "nets", "methods", "metrics", "engine"},
    "store": {"errors", "files", "records", "types"},
    "stats": set(),
    "comparison": {"types", "stats"},
    "gate": {"errors", "files", "types", "comparison"},
    "report": {"errors", "files", "types", "records", "store", "stats", "comparison", "gate"},
    "cli": {"errors", "files", "types", "data", "nets", "methods", "engine", "gate", "report"},
    "__main__": {"cli"},
    "pytest_plugin": {"errors", "files", "types", "data", "nets", "methods", "metrics"}
    | {"engine", "study", "records", "store", "gate", "report"},
}
"""What each part may import at run time; for annotations only, a part may look further."""


def part_of(path: Path) -> str:
    return path.relative_to(ROOT / "xai_core").parts[0].removesuffix(".py")


def is_for_annotations(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def imports(node: ast.AST) -> set[str]:
    """Dotted names that are imported at run time, anywhere in the module."""
    found: set[str] = set()
    for child in ast.iter_child_nodes(node):
        if is_for_annotations(child):
            continue
        if isinstance(child, ast.Import):
            found |= {alias.name for alias in child.names}
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute"
            found |= {f"{child.module}.{alias.name}" for alias in child.names}
        found |= imports(child)
    return found


MODULES = {
    path: imports(ast.parse(path.read_text("utf-8")))
    for path in sorted((ROOT / "xai_core").rglob("*.py"))
    if path.name != "__init__.py" or path.parent.name != "xai_core"
}


def test_the_order_has_no_circle():
    done: set[str] = set()
    for part, below in BELOW.items():
        assert below <= done, f"{part} stands above what it uses"
        done.add(part)


def test_every_part_has_its_place():
    assert {part_of(path) for path in MODULES} == set(BELOW)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_from_below_only(path):
    part = part_of(path)
    used = {name.split(".")[1] for name in MODULES[path] if name.startswith("xai_core.")}
    used -= {"__version__"}
    assert used <= BELOW[part] | {part}


def test_only_the_plugin_imports_pytest():
    users = {part_of(path) for path, names in MODULES.items() if any_of(names, "pytest", "_pytest")}
    assert users == {"pytest_plugin"}


TORCH_FREE = {
    "errors",
    "files",
    "types",
    "records",
    "registry",
    "metrics",
    "store",
    "stats",
    "comparison",
    "report",
}
TORCH_FREE |= {"gate"}


@pytest.mark.parametrize("part", sorted(TORCH_FREE))
def test_parts_that_need_no_torch_do_not_import_it(part):
    names = set().union(*(names for path, names in MODULES.items() if part_of(path) == part))
    assert not any_of(names, "torch", "torchvision")


def test_torch_stays_out_at_run_time():
    """Also of what they import: one process takes all modules, and names the first that errs."""
    paths = [path for path in MODULES if part_of(path) in TORCH_FREE | {"pytest_plugin"}]
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]
    code = "import importlib, sys\n" + "\n".join(
        f"importlib.import_module({module!r}); assert 'torch' not in sys.modules, {module!r}"
        for module in modules
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-300:]


def any_of(names: set[str], *packages: str) -> bool:
    return any(name.split(".")[0] in packages for name in names)
