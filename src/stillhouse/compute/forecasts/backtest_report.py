"""The back-test of every pool, lease, penalty and notice as one value, as programs read it."""

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from stillhouse.compute.forecasts.backtest import Outcomes, run, split_of
from stillhouse.compute.forecasts.chosen_policies import choose, pooled, reclaimed_share, share_of, worst_day
from stillhouse.compute.forecasts.idle_series import IdleSeries
from stillhouse.compute.forecasts.payoffs import Question
from stillhouse.compute.forecasts.policies import ZOO
from stillhouse.errors import UsageError
from stillhouse.home.progress import Progress


def backtest(
    all_of: list[IdleSeries], questions: list[Question], test_from: int | None, progress: Progress
) -> dict[str, Any]:
    """``cells``: what each policy would have earned in the test, by pool and question; ``chosen``: which to follow; ``pooled``.

    Raises UsageError where no series is long enough for a single lease.
    """
    jobs = [(series, question, test_from) for series in all_of for question in questions]
    progress.start("back-test", len(jobs))
    by_question: dict[str, list[Outcomes]] = {question.name: [] for question in questions}
    cells: list[dict[str, Any]] = []
    chosen: dict[str, dict[str, Any]] = {}
    followed: dict[tuple[str, str], str] = {}
    for done, outcomes in enumerate(_run_all(jobs), start=1):
        question = outcomes.question.name
        policy, why = choose(outcomes)
        followed[outcomes.pool, question] = policy
        chosen.setdefault(outcomes.pool, {})[question] = {"policy": policy, "why": why}
        by_question[question].append(outcomes)
        cells += [_cell(outcomes, one) for one in ZOO]
        progress.update(done, f"{outcomes.pool} {question}")
    if not any(outcomes.in_test.any() for listed in by_question.values() for outcomes in listed):
        raise UsageError(
            "No series is long enough for one lease in its test.", next_step="Give a longer series, or shorter leases."
        )
    progress.finish(f"{len(jobs)} cells")
    return {"cells": cells, "chosen": chosen, "pooled": pooled(by_question, followed)}


def _run_all(jobs: list[tuple[IdleSeries, Question, int | None]]) -> Iterator[Outcomes]:
    """Each in a process of its own where there are several: they share nothing, and come back in order."""
    if len(jobs) < 2:
        yield from map(_run, jobs)
        return
    # Started anew: the threads of this process would not live on in a copy of it.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context, initializer=_one_thread) as processes:
        yield from processes.map(_run, jobs)


def _one_thread() -> None:
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)


def _run(job: tuple[IdleSeries, Question, int | None]) -> Outcomes:
    series, question, test_from = job
    return run(series, question, split_of(series, test_from))


def _cell(outcomes: Outcomes, policy: str) -> dict[str, Any]:
    lease, penalty, notice = outcomes.question.name.split("/")
    share = share_of(outcomes, policy)
    return {
        "pool": outcomes.pool,
        "lease": lease,
        "penalty": float(penalty),
        "notice": notice,
        "policy": policy,
        "value_share": share.value,
        "low": share.low,
        "high": share.high,
        "worst_day": round(worst_day(outcomes, policy), 2),
        "reclaimed_share": round(reclaimed_share(outcomes, policy), 4),
    }


def followed_cells(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The cells of the policies that were chosen, one for each pool and question."""
    return [
        cell
        for cell in report["cells"]
        if cell["policy"]
        == report["chosen"][cell["pool"]][f"{cell['lease']}/{cell['penalty']:g}/{cell['notice']}"]["policy"]
    ]
