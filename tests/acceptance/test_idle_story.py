"""The story of GPUs that stand idle, and the three days joined."""

import pytest

from stillhouse.compute.importers.slurm_jobs import read_parsable
from stillhouse.compute.readings import PARTS, Ended
from stillhouse.runs.stories.made_up_cluster import DAY, STALLED_JOB, made_up


def test_the_made_up_cluster_is_one_that_could_be():
    cluster = made_up(1_795_996_800 // DAY * DAY)
    found = read_parsable(cluster.sacct.splitlines(keepends=True), "p")
    assert not found.left_out and cluster == made_up(cluster.end), "the same again"
    jobs = {row["job"]: row for row in found.jobs.iter_rows(named=True)}
    assert jobs[STALLED_JOB]["ended"] == Ended.RUNNING and jobs[STALLED_JOB]["parts"] == 32 * PARTS
    assert all(row["submitted"] <= row["start"] and (row["end"] or cluster.end) <= cluster.end for row in jobs.values())
    assert any(row["start"] - row["submitted"] > 3600 for row in jobs.values() if row["pool"] == "a100"), "some wait"


@pytest.mark.slow  # four weeks of forecasts
def test_the_story_of_idle_gpus(home):
    told = home("demo", "--story", "idle", "--json").json
    assert told["held_idle"] == [{"job": STALLED_JOB, "gpus": "32.0", "ask": "petra@example.com", "a_week": "11289.60"}]
    assert 0 < told["others_had_room"] <= told["waited_gpu_hours"] and told["offer"]["gpus"] > 0
    assert told["retrain"]["probability_in_a_week"] > 0.5 and told["drill_kept"]
    page = (home.home / "reports" / "story-idle" / "story.html").read_text()
    assert page.count("<svg") == 2 and "NOT" not in page and "lent under a signature" in page


@pytest.mark.slow  # trains the embedded model
@pytest.mark.model
@pytest.mark.timeout(1800)
def test_three_bad_days_end_with_a_retrain_in_idle_hours(home, sandboxed):
    told = home("demo", "--story", "all", "--json").json
    assert told["deleted"]["identical"] and told["revoked"]["clean"] in told["idle"]["retrain"]["name"]
    assert told["idle"]["retrain"]["gpu_hours"] > 0 and told["idle"]["retrain"]["probability_in_a_week"] > 0.5
    page = (home.home / "reports" / "story-all" / "story.html").read_text()
    assert all(name in page for name in ("access is revoked", "deletes the data", "GPUs stand idle"))
