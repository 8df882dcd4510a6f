"""Names that other files take from a file, in every form in which Python has it."""

from pathlib import Path

import pytest

from migrate_storage.translate.codemod.importers import ImportedNames


@pytest.mark.parametrize(
    "source",
    [
        "from app import fs",
        "from package.app import fs as other",
        "import app\napp.fs",
        "import package.app as a\na.fs",
        "from package import app as a\na.fs",
        'from importlib import import_module\nimport_module("package.app").fs',
        'import importlib\nm = importlib.import_module("app")\nm.fs',
        'import importlib\nif m := importlib.import_module(".app", "package"):\n    m.fs',
        'import app\ngetattr(app, "fs")',
        'import app\ngetattr(app, "fs", None)',
        'import importlib\ngetattr(importlib.import_module("app"), "fs")',
        'import app as a\nmonkeypatch.setattr(a, "fs", 1)',
        'monkeypatch.setattr("package.app.fs", 1)',
    ],
)
def test_a_name_is_taken(source: str, tmp_path: Path) -> None:
    user, module = tmp_path / "user.py", tmp_path / "app.py"
    user.write_text(source)
    module.write_text("fs = 1")
    assert "fs" in ImportedNames([user, module]).of(module)
