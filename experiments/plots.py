"""Write the pictures of the docs: a made-up reactor, and questions about targets.

    python experiments/plots.py [--out docs/images] [--only page|targets]

The study has 8 past observations and 40 calls (seed 0). A mixture of four parts and a beam with two
criteria have 24 calls each (seed 0). ``sine`` has 200 calls of ``inverse`` and ``arm`` 100 of
``sobol`` (seed 0). All take about two minutes. Screenshots of the reports and of the web page need
Playwright and Chromium. ``--only`` writes the picture of the page or those of the targets only.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import bo_invert as bi

ACIDS = {"sulphuric": 1.0, "hydrochloric": 0.8, "none": 0.4}
WIDTHS = (1200, 400)
"""Widths of the screenshots in pixels: a desktop and a phone."""


def reactor(p: dict[str, Any]) -> dict[str, float]:
    """Return yield in %, purity and cost of a recipe; hot and short recipes fail."""
    if p["temperature"] > 92 and p["seconds"] < 5:
        raise bi.FailedError("the vessel cracked")
    heat = np.exp(-(((p["temperature"] - 70.0) / 25.0) ** 2))
    time = np.exp(-(((np.log10(p["seconds"]) - 1.1) / 0.7) ** 2))
    stages = 1.0 - 0.04 * (p["stages"] - 4) ** 2
    return {
        "yield": float(100.0 * heat * time * ACIDS[p["acid"]] * stages),
        "purity": 1.0 - p["temperature"] / 400.0 - 0.02 * p["stages"],
        "cost": 10.0 * p["stages"] + p["temperature"],
    }


def reactor_study(storage: str) -> bi.Study:
    """Return a study with past data and 40 calls in a storage."""
    space = bi.Box(
        {
            "temperature": bi.Float(20.0, 95.0),
            "seconds": bi.Float(1.0, 100.0, log=True),
            "acid": bi.Choice(*ACIDS),
            "stages": bi.Int(1, 6),
            "stirring": bi.Float(0.0, 1.0),
        }
    )
    problem = bi.Problem(
        space, reactor, bi.Maximize("yield"), constraints=["purity >= 0.72"], name="reactor",
        outputs=["yield", "purity", "cost"],
        units={"temperature": "°C", "seconds": "s", "yield": "%", "cost": "€"},
    )  # fmt: skip
    study = bi.Study.create("reactor", problem, seed=0, storage=storage)
    past = space.domain.values(space.domain.sample(np.random.default_rng(2), 8))
    usable = [one for one in past if one["temperature"] <= 92]
    study.add(usable, [reactor(one) for one in usable])
    return study.run(40)


def mixture_study() -> bi.Study:
    """Return a study of a detergent whose parts sum to one."""
    space = bi.Box(
        {**dict.fromkeys(("water", "oil", "soap"), bi.Float(0, 1)), "salt": bi.Float(0, 0.3),
         "temperature": bi.Float(20, 80)},
        constraints=["water + oil + soap + salt == 1", "soap <= 0.6"],
    )  # fmt: skip
    problem = bi.Problem(
        space,
        lambda p: {
            "foam": 100 * p["soap"] * p["water"] - 20 * p["oil"] ** 2
            + p["salt"] * p["temperature"] / 20,
            "cost": 3 * p["soap"] + p["oil"],
        },
        bi.Maximize("foam"), outputs=["foam", "cost"], constraints=["cost <= 1.6"],
        units={"temperature": "°C", "foam": "mm", "cost": "€/kg"},
    )  # fmt: skip
    return bi.Study.create("detergent", problem, seed=0).run(24)


def beam_study() -> bi.Study:
    """Return a study of a beam that should be light and stiff."""
    space = bi.Box(
        {"height": bi.Float(1, 10), "width": bi.Float(1, 5), "material": bi.Choice("steel", "wood")}
    )

    def beam(p: dict[str, Any]) -> dict[str, float]:
        density, modulus = (7.8, 210.0) if p["material"] == "steel" else (0.6, 11.0)
        return {
            "mass": density * p["height"] * p["width"],
            "stiffness": modulus * p["width"] * p["height"] ** 3 / 12.0,
        }

    problem = bi.Problem(
        space, beam, bi.Pareto(bi.Minimize("mass"), bi.Maximize("stiffness")),
        outputs=["mass", "stiffness"], constraints=["mass <= 200"],
        units={"height": "cm", "width": "cm", "mass": "g/cm", "stiffness": "kN cm²"},
    )  # fmt: skip
    return bi.Study.create("beam", problem, seed=0).run(24)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--only", choices=("page", "targets"))
    given = parser.parse_args()
    if given.only != "page":
        target_pictures(given.out)
    if given.only == "targets":
        return
    with tempfile.TemporaryDirectory() as folder:
        storage = f"sqlite:///{folder}/runs.db"
        study = reactor_study(storage)
        page_screenshot(storage, given.out / "page.png")
        if given.only is None:
            pictures(study, given.out)


def pictures(study: bi.Study, out: Path) -> None:
    """Write the pictures of plots and reports."""
    for name in ("optimization_history", "slice", "contour", "parallel_coordinate",
                 "param_importances", "predicted_vs_observed"):  # fmt: skip
        getattr(study.plot, name)().save(out / f"plot_{name}.png", width=1100, scale=1.0)
    front = study.plot.pareto_front({"cost": "minimize", "yield": "maximize"})
    front.save(out / "plot_pareto_front.png", width=1100, scale=1.0)
    mixture = mixture_study()
    for name in ("contour", "slice", "param_importances"):
        getattr(mixture.plot, name)().save(out / f"mixture_{name}.png", width=1100, scale=1.0)
    screenshots(study, out, "report", WIDTHS)
    screenshots(beam_study(), out, "front_report", WIDTHS[:1])


def target_pictures(out: Path) -> None:
    """Write the pictures of all solutions of a target, and of the targets within reach."""
    sine = bi.ready_problem("sine", target=[0.5], tolerance=0.05)
    study = bi.Study.create("sine", sine, "inverse", seed=0).run(200)
    study.plot.posterior().save(out / "posterior.png", width=1100, scale=1.0)
    arm = bi.ready_problem("arm", target=[1.2, 0.4], tolerance=0.02)
    within = bi.Study.create("arm", arm, "sobol", seed=0).run(100, stop_when_hit=False).reachable()
    within.plot().save(out / "reachable.png", width=1100, scale=1.0)


def page_screenshot(storage: str, path: Path) -> None:
    """Write a picture of the page of the study ``reactor`` as ``bo-invert watch`` shows it."""
    from playwright.sync_api import sync_playwright

    command = [str(Path(sys.executable).with_name("bo-invert")), "watch", storage]
    watching = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert watching.stderr is not None
        lines = iter(watching.stderr.readline, "")
        url = next(found[0] for line in lines if (found := re.search(r"http://\S+", line)))
        with sync_playwright() as started:
            browser = started.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1200, "height": 1500})
            page.goto(url, timeout=120_000)
            page.click("text=reactor", timeout=120_000)
            page.wait_for_selector("text=Best trial", timeout=120_000)
            page.wait_for_timeout(8000)
            page.screenshot(path=path)
    finally:
        watching.terminate()
        watching.wait()


def chromium() -> str | None:
    """Return the path of Chromium."""
    return shutil.which("chromium") or shutil.which("google-chrome")


def screenshots(study: bi.Study, out: Path, name: str, widths: Sequence[int]) -> None:
    """Write pictures ``name_width.png`` of the report of a study."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as started:
        page_file = study.report(Path(folder) / "report.html")
        browser = started.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        for width in widths:
            page = browser.new_page(viewport={"width": width, "height": 1600})
            page.goto(page_file.as_uri())
            page.wait_for_timeout(3000)
            page.screenshot(path=out / f"{name}_{width}.png")


if __name__ == "__main__":
    main()
