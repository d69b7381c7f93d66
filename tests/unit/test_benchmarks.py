"""Each benchmark begins, and has the options that the Makefile gives its short form."""

import importlib
import re
import sys
from pathlib import Path

import pytest

MAKEFILE = (Path(__file__).parents[2] / "Makefile").read_text().replace("\\\n", "")
SHORT = dict(re.findall(r"^SHORT_(\w+) := (.*)$", MAKEFILE, re.MULTILINE))
(NAMES,) = re.findall(r"^BENCHES := (.*)$", MAKEFILE, re.MULTILINE)


def test_each_has_a_short_form() -> None:
    assert set(SHORT) == set(NAMES.split())


@pytest.mark.parametrize("name", NAMES.split())
def test_a_benchmark_knows_the_options_of_its_short_form(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = importlib.import_module(f"benchmarks.{name}")
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == 0
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    assert {"--output", *re.findall(r"--[a-z-]+", SHORT[name])} <= known
