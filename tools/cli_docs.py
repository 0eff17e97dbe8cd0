"""Write docs/cli.md from the commands' own help.

python tools/cli_docs.py            writes docs/cli.md
python tools/cli_docs.py --check    fails where it would change
"""

import os
import subprocess
import sys
from pathlib import Path

TARGET = Path(__file__).parent.parent / "docs" / "cli.md"
HEAD = """# Command line

Written by `make docs` from the commands' own help.

Exit codes: 0 done, 1 failed, 2 wrong use, 3 refused (by policy or custody), 4 integrity violated, 5 budget reached,
130 interrupted. With `--json`, standard output holds one JSON value and nothing else.
"""


def help_of(words):
    """The help text of a command."""
    environment = {**os.environ, "COLUMNS": "110", "TERM": "dumb", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "stillhouse", *words, "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


def commands(text):
    """The names under "Commands:" of a help text."""
    lines = text.partition("\nCommands:\n")[2].split("\n\n")[0].splitlines()
    return [line.split()[0] for line in lines if line.startswith("  ") and not line.startswith("   ")]


def page():
    """The whole page."""
    parts, waiting = [HEAD], [[]]
    while waiting:
        words = waiting.pop(0)
        text = help_of(words)
        parts.append(f"\n## {' '.join(['stillhouse', *words])}\n\n```text\n{text.strip()}\n```\n")
        waiting = [[*words, name] for name in commands(text)] + waiting
    return "".join(parts)


if __name__ == "__main__":
    made = page()
    if "--check" in sys.argv:
        sys.exit(0 if TARGET.exists() and TARGET.read_text() == made else "docs/cli.md is out of date: run `make docs`")
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(made)
