"""Archives of terms, their changes, and what an organisation reads itself."""

import csv
import gzip
import json
import subprocess

import pytest

OLD = "# Terms\n\nYou own the output. You may use it as you like.\n\nBe kind.\n"
NEW = "# Terms\n\nYou own the output. You may not use output to train a competing model.\n\nBe kind.\n"
REWORDED = "# Terms\n\n**You own the output.** You MAY not use [output](http://x) to train a competing model!\n\nBe very kind.\n"


def archive(folder, texts, service="Acme", document="Terms of Service"):
    place = folder / service / document
    place.mkdir(parents=True, exist_ok=True)
    for day, text in texts.items():
        (place / f"{day}.md").write_text(text)
    return folder


def test_changes_that_matter_are_proposed_side_by_side_and_change_no_verdict(home, tmp_path):
    folder = archive(
        tmp_path / "archive", {"2026-01-01T10-00-00Z": OLD, "2026-02-01T23-30-00+02-00": NEW, "2026-03-01": REWORDED}
    )
    target = tmp_path / "review"
    found = home("terms", "import-archive", folder, "--to", target, "--json").json
    assert [one["observed"] for one in found["proposals"]] == ["2026-01-01", "2026-02-01"], (
        "layout and case are no change"
    )
    change = found["proposals"][1]
    assert [passage["words"] for passage in change["added"]] == ["You may not use output to train a competing model."]
    start, end = change["added"][0]["start"], change["added"][0]["end"]
    assert NEW[start:end].strip() == change["added"][0]["words"]
    page = (target / "Acme-Terms_of_Service-2026-02-01.md").read_text()
    assert "## Gone" in page and "## New" in page
    assert home("terms", "show", "Acme/Terms of Service", code=2)
    draft = (target / "Acme-Terms_of_Service-2026-02-01.toml.draft").read_text()
    assert 'verdict = "unclear"' in draft
    (home.home / "terms").mkdir()
    (home.home / "terms" / "acme.toml").write_text(draft)
    assert "draft that was not read" in home("terms", "list", code=2).err
    read = draft.replace('verdict = "unclear"', 'verdict = "no-competing-model"').replace(
        'summary = ""', 'summary = "No rivals."'
    )
    read = read.replace('confidence = "unread"', 'confidence = "read"').replace('reviewer = ""', 'reviewer = "ada"')
    (home.home / "terms" / "acme.toml").write_text(read)
    words = ["terms", "asof", "--service", "Acme", "--document", "Terms of Service", "--use", "train", "--json"]
    assert home(*words, "--date", "2026-03-01").json["verdict"] == "no-competing-model"
    before = home(*words, "--date", "2026-01-15").json
    assert (before["verdict"], before["decision"]) == ("unknown", "deny"), "a day before the first version"


def test_a_page_that_flickers_out_of_capture_changes_nothing(home, tmp_path):
    texts = {
        "2026-01-01": NEW,
        "2026-01-02": "404, train not found",
        "2026-01-03": NEW,
        "2026-01-04": "",
        "2026-01-05": NEW,
    }
    found = home("terms", "import-archive", archive(tmp_path / "archive", texts), "--json").json
    assert [one["observed"] for one in found["proposals"]] == ["2026-01-01"]


def test_a_repository_is_read_as_open_terms_archive_keeps_it(home, tmp_path):
    repository = tmp_path / "versions"
    (repository / "Acme").mkdir(parents=True)

    def git(*words, **environment):
        command = ["git", "-C", str(repository), "-c", "user.name=a", "-c", "user.email=a@example.org", *words]
        subprocess.run(command, check=True, capture_output=True, env={"PATH": "/usr/bin:/bin", **environment})

    git("init", "-q")
    for day, text in (("2026-01-01T12:00:00+0000", OLD), ("2026-02-01T23:30:00-0500", NEW)):
        (repository / "Acme" / "Terms of Service.md").write_text(text)
        git("add", "-A")
        git("commit", "-q", "-m", "x", GIT_AUTHOR_DATE=day, GIT_COMMITTER_DATE=day)
    found = home("terms", "import-archive", repository, "--json").json
    assert [one["observed"] for one in found["proposals"]] == ["2026-01-01", "2026-02-02"], "in UTC"


@pytest.mark.shared_data
def test_what_was_read_already_is_not_proposed_again(home, tmp_path, shared_data):
    folder = tmp_path / "archive"
    with (shared_data / "terms" / "index.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["service"] in ("Llama API", "Cursor", "Claude.ai") and row["text"]:
                text = gzip.decompress((shared_data / "terms" / "texts" / f"{row['text']}.md.gz").read_bytes()).decode()
                stamp = row["observed_at"].replace(":", "-").replace("+00-00", "Z")
                archive(folder, {stamp: text}, row["service"], row["document"])
    found = home("terms", "import-archive", folder, "--json").json
    assert found["texts"] > 300
    proposed = [(one["document"], one["observed"]) for one in found["proposals"]]
    assert len(proposed) < 60, "of several hundred captures, few are worth a reviewer's time"
    assert ("Llama API/Terms of Service", "2026-07-08") not in proposed, "the registry has read that one"
    assert ("Cursor/Terms of Service", "2025-06-19") not in proposed


@pytest.mark.parametrize("what", ["nothing", "a file", "other files"])
def test_what_is_no_archive_is_said_so(home, tmp_path, what):
    folder = tmp_path / "x"
    if what == "a file":
        folder.write_text("x")
    else:
        folder.mkdir()
        (folder / "readme.md").write_text("x")
    assert home("terms", "import-archive", folder, code=2)


def test_unreadable_texts_are_counted(home, tmp_path):
    folder = archive(tmp_path / "archive", {"2026-01-01": NEW, "yesterday": OLD})
    (folder / "Acme" / "Terms of Service" / "2026-02-01.md").write_bytes(b"\xff\xfe")
    assert home("terms", "import-archive", folder, "--json").json["unreadable"] == 2


def test_changes_are_shown_beside_what_was_made_under_them(home):
    row = {"model": "m", "messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}
    for name, day, count in (("before", "2026-06-01", 3), ("after", "2026-07-20", 2)):
        rows = [
            {**row, "messages": [{"role": "user", "content": f"{name}{n}"}, row["messages"][1]]} for n in range(count)
        ]
        file = home.write(f"{name}.jsonl", "".join(json.dumps(one) + "\n" for one in rows))
        words = ["dataset", "import", file, "--name", name, "--lab", "meta", "--channel", "official", "--day", day]
        home(*words, "--terms", "Llama API/Terms of Service")
    found = home("terms", "diff", "Llama API", "--since", "2026-07-01", "--json").json
    flip = next(one for one in found if one["flips"] and one["document"] == "Llama API/Terms of Service")
    assert (flip["date"], flip["from"], flip["to"]) == ("2026-07-08", "conditions", "no-competing-model")
    assert (flip["records_before"], flip["records_after"]) == (3, 2)


def test_unknown_services_are_denied_and_what_is_near_is_named(home):
    words = ["terms", "asof", "--document", "Terms", "--date", "2026-01-01", "--use", "train", "--json", "--service"]
    found = home(*words, "Grok").json
    assert (found["verdict"], found["decision"], found["version"]) == ("unknown", "deny", None)
    assert "Grok/Commercial Terms" in found["reason"]
    assert "no document of that service" in home(*words, "Nobody").json["reason"]
    assert home("terms", "asof", "--service", "Grok", "--document", "x", "--date", "soon", "--use", "train", code=2)


def test_a_new_date_of_its_own_is_a_version_though_no_passage_changed(home, tmp_path):
    texts = {f"2026-0{n}-01": f"# Terms\n\n{line}\n\n{NEW}" for n, line in enumerate(
        ("Effective January 5, 2026", "Last updated: 5 February 2026", "UpdatedMarch 5th, 2026", "Version of 2026-03-05"), 1
    )}  # fmt: skip
    target = tmp_path / "review"
    found = home("terms", "import-archive", archive(tmp_path / "archive", texts), "--to", target, "--json").json
    assert [one["effective"] for one in found["proposals"]] == ["2026-01-05", "2026-02-05", "2026-03-05"]
    assert 'effective = "2026-02-05"' in (target / "Acme-Terms_of_Service-2026-02-01.toml.draft").read_text()


def test_what_is_about_personal_data_is_left_out_and_named(home, tmp_path):
    folder = archive(tmp_path / "archive", {"2026-01-01": NEW})
    archive(folder, {"2026-01-01": NEW}, document="Privacy Policy")
    ran = home("terms", "import-archive", folder, "--json")
    assert [one["document"] for one in ran.json["proposals"]] == ["Acme/Terms of Service"]
    assert ran.json["left_out"] == ["Acme/Privacy Policy"]
    assert "Privacy Policy" in ran.err


@pytest.mark.parametrize("spelt", ["Together AI", "Together.ai", "together"])
def test_a_service_that_is_spelt_otherwise_is_the_one_that_is_known(home, tmp_path, spelt):
    known = next(one for one in home("terms", "list", "--json").json if one["service"] == "Together")
    folder = archive(tmp_path / "archive", {"2027-01-01": NEW}, spelt, known["document"])
    [found] = home("terms", "import-archive", folder, "--json").json["proposals"]
    assert found["document"] == f"Together/{known['document']}"
    assert found["standing"].startswith(f"Together/{known['document']}@")


def test_a_bare_mirror_is_read_as_the_repository_that_it_is_of(home, tmp_path):
    repository = tmp_path / "versions"
    (repository / "Acme").mkdir(parents=True)
    (repository / "Acme" / "Terms of Service.md").write_text(NEW)
    named = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "-A"], [*named, "commit", "-q", "-m", "x"]):
        subprocess.run(["git", "-C", str(repository), *words], check=True, capture_output=True)
    mirror = tmp_path / "mirror.git"
    subprocess.run(["git", "clone", "-q", "--mirror", str(repository), str(mirror)], check=True, capture_output=True)
    assert len(home("terms", "import-archive", mirror, "--json").json["proposals"]) == 1
