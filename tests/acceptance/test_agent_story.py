"""The story of recorded agents."""

import json
from pathlib import Path


def test_agents_are_recorded_judged_and_gathered(home, sandboxed):
    told = home("demo", "--story", "agent", "--json").json
    assert (told["sessions"], told["passed"]) == (10, 9) and told["known"] == told["answers"] > 40
    assert told["dataset"] == "story-sessions@1" and 0 < told["rows"] <= told["passed"]
    page = (home.home / "reports" / "story-agent" / "story.html").read_text()
    assert page.count("<svg") == 2 and "[calls run_tests {}]" in page and "whisper: failed" in page
    lines = Path(told["export"]).read_text().splitlines()
    assert len(lines) == told["rows"]
    for row in map(json.loads, lines):
        assert row["stillhouse"]["outcome"]["passed"] and all(row["stillhouse"]["answers"])
        assert isinstance(row["messages"][2]["tool_calls"][0]["function"]["arguments"], dict)
    listed = home("session", "list", "--project", "story-agent", "--json").json
    assert {one["outcome"] for one in listed} == {"passed", "failed"} and len(listed) == 10
    home("session", "show", listed[0]["session"], "--html", "page.html")
    shown = (home.folder / "page.html").read_text()
    assert "calls write_file" in shown and "I read the code first." in shown and shown.count("<section") == 9
    again = home("demo", "--story", "agent", "--json").json
    assert (again["sessions"], again["rows"]) == (told["sessions"], told["rows"]), "a story can be told again"
