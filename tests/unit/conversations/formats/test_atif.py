"""What is written as ATIF is accepted by its own package."""

import json

import pytest
from hypothesis import HealthCheck, given, settings

from stillhouse.conversations.formats import atif, claude_code, pi_session, swe_agent
from stillhouse.conversations.formats.format import CannotWrite
from stillhouse.conversations.record import text_of
from tests.conformance.test_formats import CALLING, conversations
from tests.unit.conversations.formats.test_session_files import document, lines

package = pytest.importorskip("atif")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(conversations())
def test_what_is_written_is_valid(conversation):
    try:
        written = atif.write(conversation)
    except CannotWrite:
        return
    package.Trajectory.model_validate(json.loads(json.dumps(written)))


def test_real_trajectories_are_valid():
    sessions = [
        claude_code.read(lines("claude_code_session.jsonl"))[0],
        pi_session.read(lines("pi_session.jsonl.gz"))[0],
        swe_agent.read(document("swe_agent_pandas.traj.gz"))[0],
    ]
    for conversation in sessions:
        trajectory = package.Trajectory.model_validate(atif.write(conversation))
        assert len(trajectory.steps) == sum(str(turn.role) != "tool" for turn in conversation.turns)


def test_what_the_package_writes_is_read():
    sub = package.Trajectory.model_validate({**atif.write(CALLING), "trajectory_id": "below"})
    given = {**atif.write(CALLING), "trajectory_id": "main", "subagent_trajectories": [sub.to_json_dict()]}
    given["agent"]["model_name"] = "m"
    whole, below = atif.read(package.Trajectory.model_validate(given).to_json_dict())
    assert [text_of(turn) for turn in whole.turns] == [text_of(turn) for turn in CALLING.turns]
    assert whole.turns[1].model == "m" and (below.id, below.parent) == ("below", "main")
