"""The tutorial, done as it says: its files are saved, its commands typed into two terminals."""

import os
import pathlib
import re
import signal
import subprocess
import sys

import pytest

from pgevents.testing import wait_until

from . import command

ROOT = pathlib.Path(__file__).parent.parent
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
SCENE = re.compile(r"^(first|second)([$>]) ?(.*)\n((?:(?!first|second).*\n)*)", re.M)
TIMEOUT = 30  # seconds in which a terminal has to show what the tutorial says


class Terminal:
    """A terminal in which one program after the other runs until Ctrl-C."""

    def __init__(self, folder):
        self._folder = folder
        self._running = None
        self._output = None
        self._seen = 0

    def type(self, words):
        """End what runs, and start a program; Ctrl-C is typed as ^C."""
        self.interrupt()
        if words == ["^C"]:
            return
        self._output = self._folder / "terminal.txt"
        self._seen = 0
        with self._output.open("w") as output:
            self._running = subprocess.Popen(
                python(words), cwd=str(self._folder), stdout=output, env=command.environment()
            )

    def expect(self, lines):
        """Wait until these are the next lines."""
        wait_until(lambda: len(self._lines()) >= self._seen + len(lines), TIMEOUT)
        shown = self._lines()[self._seen : self._seen + len(lines)]
        self._seen += len(lines)
        assert shown == lines

    def interrupt(self):
        if self._running is not None:
            self._running.send_signal(signal.SIGINT)
            self._running.wait(TIMEOUT)
            self._running = None

    def _lines(self):
        return self._output.read_text().splitlines()


def python(words):
    name, *rest = words
    assert name == "python"
    return [sys.executable, *rest]


def files():
    """Each file that the tutorial has one save: name → text."""
    texts = re.findall(r"^```python\n(.*?)^```", TUTORIAL, re.M | re.S)
    return {text.splitlines()[0][len("# ") :]: text for text in texts}


def scenes():
    """What happens in the terminals: (terminal, words typed or None, lines shown)."""
    for block in re.findall(r"^```console\n(.*?)^```", TUTORIAL, re.M | re.S):
        for terminal, sign, words, shown in SCENE.findall(block):
            yield terminal, words.split() if sign == "$" else None, shown.splitlines()


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is no signal there")
def test_the_tutorial_shows_what_it_says(tmp_path):
    for name, text in files().items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    first = Terminal(tmp_path)

    try:
        for terminal, words, lines in scenes():
            if terminal == "first":
                if words is not None:
                    first.type(words)
                first.expect(lines)
            else:
                shown = subprocess.check_output(
                    python(words), cwd=str(tmp_path), env=command.environment(), timeout=TIMEOUT
                )
                assert shown.decode().splitlines() == lines
    finally:
        first.interrupt()


def test_the_tutorial_has_files_and_scenes():
    assert sorted(files()) == ["listen.py", "shop.py", "work.py"]
    assert len(list(scenes())) == 11
