"""The page's files: what a browser asks for exists, and nothing comes from elsewhere."""

import re
from pathlib import Path

STATIC = Path(__file__).parents[2] / "page" / "static"
INDEX = (STATIC / "index.html").read_text()
SCRIPTS = {path: path.read_text() for path in sorted((STATIC / "js").glob("*.js"))}


def test_every_file_that_is_named_exists() -> None:
    names = re.findall(r'(?:href|src)="static/([^"]+)"', INDEX)
    assert names
    for name in names:
        assert (STATIC / name).is_file(), name
    for path, text in SCRIPTS.items():
        for name in re.findall(r'from "\./([^"]+)"', text):
            assert (path.parent / name).is_file(), f"{path.name} imports {name}"


def test_every_element_that_a_script_looks_up_exists_once() -> None:
    ids = re.findall(r'\bid="([^"]+)"', INDEX)
    assert len(ids) == len(set(ids))
    for path, text in SCRIPTS.items():
        for name in re.findall(r'byId\("([^"]+)"\)', text):
            assert name in ids, f"{path.name} looks for #{name}"


def test_every_module_is_used() -> None:
    used = {"main.js", "types.js"} | {
        name for text in SCRIPTS.values() for name in re.findall(r'from "\./([^"]+)"', text)
    }
    assert {path.name for path in SCRIPTS} == used


def test_nothing_comes_from_elsewhere_and_no_text_becomes_markup() -> None:
    for path in STATIC.rglob("*"):
        if path.is_file():
            text = path.read_text()
            addresses = set(re.findall(r"https?://[^\s\"'<]+", text))
            assert addresses <= {"http://www.w3.org/2000/svg", "http://127.0.0.1:8000/metrics"}
            assert not re.search(
                r"innerHTML|outerHTML|insertAdjacentHTML|eval\(|\bon[a-z]+=", text
            ), path


def test_a_script_is_one_idea() -> None:
    for path, text in SCRIPTS.items():
        assert text.startswith("/**"), path
        assert len(text.splitlines()) <= 300, path
