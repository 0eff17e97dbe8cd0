"""A whole run on each database."""


def test_a_whole_run_on_this_database(url, cli, sandboxed):
    where = {"STILLHOUSE_LEDGER_URL": url}
    cli("init", **where)
    cli.prompts(3)
    recording = cli.recording([{"task": f"t{n}", "text": "```\ndef f(x): return x + 1\n```"} for n in range(3)])
    words = ["teacher", "add", "recorded", "--kind", "replay", "--model", "m", "--lab", "l", "--channel", "published"]
    cli(*words, "--terms", "licence/mit", "--weights", recording, **where)
    done = cli("run", cli.recipe("recorded"), "--durability", "power", "--json", **where).json
    assert (done["verified"], done["rows"]) == (3, 3)
    assert cli("run", cli.recipe("recorded"), "--json", **where).json["reused"] == 3
    assert "ok" in cli("doctor", "--rebuild", **where).out
    assert cli("dataset", "show", "example", "--json", **where).json["content_digest"] == done["content_digest"]
    assert cli("status", "--json", **where).json["ledger"] == url.partition("+")[0].partition(":")[0]
