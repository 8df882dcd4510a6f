"""What a user installs: the wheel holds the package and nothing else, starts, and claims what it imports."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import migrate_storage
from tests.support import ROOT


def build(kind: str, source: Path, directory: Path) -> Path:
    """Build without the isolation that would fetch the build backend again."""
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", directory], cwd=source, check=True)
    return next(directory.glob("*.whl" if kind == "wheel" else "*.tar.gz"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the sdist."""
    made = tmp_path_factory.mktemp("wheel")
    with tarfile.open(build("sdist", ROOT, made)) as archive:
        archive.extractall(made, filter="data")
    return build("wheel", next(path for path in made.iterdir() if path.is_dir()), made)


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"migrate_storage", f"migrate_storage-{migrate_storage.__version__}.dist-info"}
    assert "migrate_storage/py.typed" in names
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "migrate_storage").rglob("*.py")}
    assert sources <= set(names)


def test_the_wheel_starts_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    program = [sys.executable, "-m", "migrate_storage", "--version"]
    environment = {"PYTHONPATH": str(tmp_path / "site"), "PATH": ""}
    done = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert migrate_storage.__version__ in done.stdout


EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


@pytest.mark.soak
@pytest.mark.parametrize("extra", ["", *EXTRAS])
def test_the_demo_runs_with_each_extra_alone(wheel: Path, tmp_path: Path, extra: str) -> None:
    """In an empty environment, installed as README says, away from the checkout."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    name = f"migrate-storage[{extra}]" if extra else "migrate-storage"
    programs = tmp_path / "venv" / "bin"
    # The index of packages speaks TLS; no other server of the tests does.
    environment = {name: value for name, value in os.environ.items() if name != "SSL_CERT_FILE"}
    install = [programs / "pip", "install", "--quiet", name, "--find-links", wheel.parent]
    subprocess.run(install, env=environment, check=True)
    for arguments in (["demo"], ["--help"], ["run", "--help"]):
        done = subprocess.run(
            [programs / "migrate-storage", *arguments], cwd=tmp_path, env={"PATH": ""}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr


def test_one_version_is_named_everywhere() -> None:
    assert f"version: {migrate_storage.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"## {migrate_storage.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_what_every_user_imports_is_a_dependency_of_every_user() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    # A folder with the name of an extra is imported by nobody who has not got it.
    extras = {ROOT / "migrate_storage" / name: claims for name, claims in project["optional-dependencies"].items()}
    # Rewriting source files needs an extra.
    extras[ROOT / "migrate_storage" / "translate" / "codemod"] = project["optional-dependencies"]["convert"]
    # Who takes fixtures from it runs pytest.
    extras[ROOT / "migrate_storage" / "testing.py"] = ["pytest"]
    providers = packages_distributions()
    for path in (ROOT / "migrate_storage").rglob("*.py"):
        claims = [*project["dependencies"], *extras.get(path.parent, ()), *extras.get(path, ())]
        claimed = {re.match(r"[\w-]+", claim)[0].lower() for claim in claims}
        # Imports inside functions are of extras, and say so when those are missing.
        for node in ast.parse(path.read_text()).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for top in {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"migrate_storage"}:
                by = {name.lower().replace("_", "-") for name in providers[top]}
                assert by & claimed, f"{path.relative_to(ROOT)} imports {top}, which is in no dependency"
