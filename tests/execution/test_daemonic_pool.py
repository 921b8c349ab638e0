"""Worker processes of a study inside a daemonic process, which may not have children itself."""

from __future__ import annotations

import multiprocessing

import numpy as np

import bo_invert as bi


def search(executor: str) -> tuple[int, str]:
    asked = bi.Problem(bi.Box([0, 0], [1, 1]), np.sum, bi.Minimize())
    study = bi.Study.create("s", asked, strategy="random").run(3, executor=executor, batch=2)
    return study.spent.failed, study.trials[-1].reason


def test_processes_start_inside_a_daemon() -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(search, ["auto", "processes"]) == [(0, ""), (0, "")]
