"""The page's JavaScript where it needs no browser: syntax, and the pure functions."""

import shutil
import subprocess
from pathlib import Path

import pytest

STATIC = Path(__file__).parents[2] / "page" / "static"
MODULES = sorted((STATIC / "js").glob("*.js"))

pytestmark = pytest.mark.node


def _node(*arguments: str | Path, given: str | None = None) -> str:
    done = subprocess.run(
        [str(shutil.which("node")), *map(str, arguments)],
        input=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_a_module_is_valid(module: Path) -> None:
    _node("--check", "--input-type=module", "-", given=module.read_text())


def test_pure_functions() -> None:
    major = int(_node("--version").lstrip("v").partition(".")[0])
    # Before 20 a file's name alone says whether it is a module.
    flags = ["--experimental-default-type=module"] if major < 20 else []
    said = _node(*flags, "--test", Path(__file__).with_name("page_modules.mjs"))
    assert "# fail 0" in said
    assert "# pass 0" not in said
