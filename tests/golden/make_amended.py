"""Write the golden study of format 4: amendments, conditions, further values, outside designs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import bo_invert as bi
from bo_invert.storage.backup import backup
from bo_invert.storage.export_import import export_study
from bo_invert.storage.open import open_store

FOLDER = Path(__file__).parent


def problem() -> bi.Problem:
    """Return a problem with every type of parameter."""
    space = bi.Box({
        "temperature": bi.Float(20.0, 100.0), "rate": bi.Float(0.01, 1.0, log=True),
        "stirrers": bi.Int(1, 5), "solvent": bi.Choice("water", "dmso"),
    })  # fmt: skip
    return bi.Problem(space, None, bi.Maximize("yield"), outputs=["yield"], name="reaction")


def state(study: bi.Study) -> Any:
    """Return the trials of a study as JSON."""
    trials = [
        {
            "state": str(trial.state), "point": trial.point.tolist(), "design": trial.design,
            "y": None if trial.y is None else trial.y.tolist(), "extra": dict(trial.extra),
            "moved": trial.moved, "outside": trial.outside, "reason": trial.reason,
            "suggested": trial.query.point.tolist(),
            "amendments": [[str(a.before.state), a.before.loss, a.reason] for a in
                           trial.amendments],
        }
        for trial in study.trials
    ]  # fmt: skip
    best = study.best
    return {"trials": trials, "best": best and best.number, "spent": study.spent.to_json()}


def make(url: str) -> bi.Study:
    """Create the study."""
    study = bi.Study.create("amended", problem(), "random", 4, url)
    row = {"temperature": 70.0, "rate": 0.1, "stirrers": 2, "solvent": "water", "yield": 0.4}
    study.add([row | {"colour": "red", "ph": 7}, row | {"stirrers": 9, "yield": 0.9},
               row | {"solvent": "dmso", "yield": None}], outside="model")  # fmt: skip
    first, second, third, fourth = study.ask(4)
    study.tell(first, 0.5, at={"temperature": 71.5}, extra={"clear": True})
    study.tell(second, 0.6, at={"temperature": 120.0}, outside="model")
    study.tell(third, bi.FailedError("spilled"), extra={"note": "cracked"})
    study.tell(fourth, 7.0)
    study.amend(fourth, 0.7, reason="a missing dot")
    study.amend(third, 0.3, reason="measured again")
    study.amend(0, bi.InfeasibleError("contaminated"))
    study.amend(first, at={"temperature": 72.5}, extra={"clear": False})
    return study


if __name__ == "__main__":
    url = f"sqlite:///{FOLDER}/made.db"
    made = make(url)
    backup(open_store(url), FOLDER / "amended.db")
    export_study(open_store(url), "amended", FOLDER / "amended.jsonl")
    text = json.dumps(state(made), indent=1)
    (FOLDER / "amended.json").write_text(text + "\n", encoding="utf-8")
    (FOLDER / "made.db").unlink()
