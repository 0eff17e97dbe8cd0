"""What a collection shows."""

from decimal import Decimal

from stillhouse.home.plans.planning import make_plan
from stillhouse.permission.stamp_sets import stamp_set
from stillhouse.runs.collection_progress import LiveView
from stillhouse.teachers.collect import Collected, Collection


class Shown:
    """A progress that keeps what it was told."""

    def __init__(self):
        self.done = []

    def start(self, stage, total):
        pass

    def update(self, done, message="", state=None):
        self.done.append(done)


def test_answers_that_come_all_at_once_are_all_shown():
    """They are counted in one value, which is looked at now and then: the next word of a local model brings it up to date."""
    stamps = stamp_set([])
    plan = make_plan("collect", "r", {}, (), Decimal(0), "")
    collection = Collection(plan, (), (), (), frozenset(), stamps, "")
    shown, collected = Shown(), Collected()
    view = LiveView(shown, "t", collection, None)
    collected.answers = 1
    view.show(collected)
    collected.answers = 128
    view.tokens(10)
    assert shown.done[-1] == 128
