"""Seconds of every stage of the demo, on an empty home: the quick one, and with --full the whole one."""

import json
import subprocess
import sys
import tempfile
import time

if __name__ == "__main__":
    for words in [["--quick"], []] if "--full" in sys.argv else [["--quick"]]:
        with tempfile.TemporaryDirectory() as home:
            started = time.perf_counter()
            command = [sys.executable, "-m", "stillhouse", "demo", *words, "--home", f"{home}/h", "--json"]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            result = json.loads(done.stdout)
            stages = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in result["stages"].items())
            print(
                f"demo {' '.join(words)}: {time.perf_counter() - started:.0f} s in all; {stages}; "
                f"{result['answers']} answers, {result['verified']} verified, {result['rows']} rows"
            )
