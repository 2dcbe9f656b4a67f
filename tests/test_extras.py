"""Scripts for other programs in ``extras`` call commands and options that exist."""

import re
from pathlib import Path

import pytest

EXTRAS = Path(__file__).parent.parent / "extras"
SCRIPTS = {"qupath/carry_objects.groovy": {"points"}, "fiji/align_images.ijm": {"align", "points"}}


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_uses_options_that_exist(script, program):
    text = (EXTRAS / script).read_text(encoding="utf-8")
    assert set(re.findall(r'program, "(\w+)"', text)) == SCRIPTS[script]
    helps = " ".join(program(command, "--help").stdout for command in SCRIPTS[script])
    used = set(re.findall(r'"(--?[a-z-]+)"', text))
    assert used
    assert used <= set(re.findall(r"(?<![\w-])--?[a-z-]+", helps))
