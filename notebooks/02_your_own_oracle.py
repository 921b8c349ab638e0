# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Your own oracle: a program that crashes, and a random forest in a latent space
#
# This notebook uses two oracles without gradients. The first is a program in another language
# that sometimes crashes or hangs. The second is a random forest of scikit-learn on images,
# searched in a latent space. Before each search, `bi.doctor` checks the problem.

# %%
import os
import subprocess
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import bo_invert as bi

short = bool(os.environ.get("BO_INVERT_SHORT"))  # set by the tests
LOOK, BUDGET = (8, 9) if short else (30, 80)
folder = Path(tempfile.mkdtemp())

# %% [markdown]
# ## A program
#
# A ball is thrown with spin over a wall of 8 m at a distance of 40 m and should land near 60 m.
# The simulation is written in awk and prints a sentence. It ends with exit code 3 if the ball
# does not reach the wall. It is unstable for fast balls. With strong backspin at a steep angle
# its step size becomes zero, and it never ends.

# %%
script = folder / "throw.awk"
script.write_text("""
BEGIN {
    x = 0; y = 1.5; a = angle * atan2(0, -1) / 180; u = speed * cos(a); v = speed * sin(a)
    dt = 0.005; wall = -1
    if (speed > 52 && spin > 60) { print "step size underflow in solver" > "/dev/stderr"; exit 2 }
    if (spin > 120 && angle > 65) while (1) { }
    while (y > 0) {
        s = sqrt(u * u + v * v); drag = 0.006 * s; lift = 0.00045 * spin
        u += dt * (-drag * u - lift * v); v += dt * (-9.81 - drag * v + lift * u)
        x += dt * u; y += dt * v
        if (x >= 40 && wall < 0) wall = y
        if (trace) print x, y
    }
    if (trace) exit
    if (wall < 0) { print "the ball does not reach the wall" > "/dev/stderr"; exit 3 }
    printf "It lands at %.4f m, %.4f m above the top of the wall, for %.4f J.\\n", x, wall - 8, \\
        0.5 * 0.145 * speed ^ 2 + 0.5 * 0.00008 * spin ^ 2
}
""")

# %% [markdown]
# `bi.Command` runs the program for every design. Values of the design replace names in braces,
# and a regular expression with named groups parses the output. Exit code 3 marks a design as
# infeasible. Any other error is a failure, and a run is stopped after one second. All runs are
# billed, and none stops the study.

# %%
import re

command = ["awk", "-v", "speed={speed}", "-v", "angle={angle}", "-v", "spin={spin}", "-f", script]
sentence = re.compile(
    r"lands at (?P<range>\S+) m, (?P<clearance>\S+) m above .* for (?P<energy>\S+) J"
)
program = bi.Command(command, input=None, output=sentence, timeout=1.0, infeasible=3)
space = bi.Box({"speed": bi.Float(15, 60), "angle": bi.Float(10, 80), "spin": bi.Float(-150, 150)})
throw = bi.Problem(
    space,
    program,
    bi.Minimize("energy"),
    constraints=["clearance >= 1", "range >= 58", "range <= 62"],
    outputs=["range", "clearance", "energy"],
    name="throw",
)
program([{"speed": 30.0, "angle": 40.0, "spin": 0.0}])

# %% [markdown]
# ## Checks before the search
#
# A few calls determine repeatability, latency and failure rate, and the recommended strategy.

# %%
bi.doctor(throw, calls=LOOK)

# %% [markdown]
# ## Following the advice
#
# The report above contains five pieces of advice. What to do with each of them:
#
# - *Raise `InfeasibleError` for designs that can never be evaluated.* The program is deterministic:
#   a crash of the solver (exit code 2) happens again, like a ball that does not reach the wall.
#   Both codes are declared below, so that no call is spent on a retry.
# - *Use several workers.* The slowest call takes a hundred times the median, because a run that
#   never ends is stopped after a second. Four workers run at once, so that the others go on.
# - *Narrow the space.* Not followed: the study learns where throws fail, and a smaller space might
#   exclude the best one. The plots below show where it failed.
# - *No draw satisfies all constraints.* Expected: the ball should land in a strip of 4 m. Each
#   single constraint is satisfied by some draws, so the problem is not contradictory.
# - *Use `strategy="auto"`.* Followed: it is the default.

# %%
program = bi.Command(command, input=None, output=sentence, timeout=1.0, infeasible=[2, 3])
throw = bi.Problem(
    space,
    program,
    bi.Minimize("energy"),
    constraints=["clearance >= 1", "range >= 58", "range <= 62"],
    outputs=["range", "clearance", "energy"],
    name="throw",
    units={
        "speed": "m/s", "angle": "°", "spin": "rad/s",
        "range": "m", "clearance": "m", "energy": "J",
    },
)  # fmt: skip
study = bi.Study.create("throw", throw, seed=0)
study.run(budget=BUDGET, executor="threads", batch=4)
study

# %% [markdown]
# The course of the search, and the model along each parameter. A triangle violates a constraint, a
# cross has no outputs.

# %%
study.plot.optimization_history()

# %%
study.plot.slice()

# %%
study.plot.contour(["speed", "angle"])

# %% [markdown]
# `study.report("throw.html")` writes all of this to one page, with the importance of the
# parameters, left-out predictions and suggested next steps.

# %%
print(study.report(folder / "throw.html").stat().st_size // 1000, "kB")

# %% [markdown]
# Failed trials are billed and listed with their reasons. The surrogate learns the region of
# failures.

# %%
frame = study.to_dataframe()
frame[frame["state"] != "completed"].groupby(["state", "reason"]).size().rename("trials").to_frame()


# %%
def path(design: dict) -> np.ndarray:
    """Return the trajectory of a throw, shape (steps, 2), from the same program."""
    values = [f"{key}={value!r}" for key, value in {**design, "trace": 1}.items()]
    argv = ["awk", *(word for value in values for word in ("-v", value)), "-f", str(script)]
    return np.array(
        [
            line.split()
            for line in subprocess.run(argv, capture_output=True, text=True).stdout.splitlines()
        ],
        float,
    )


fig, ax = plt.subplots(figsize=(8, 3.6))
for trial in study.history.completed:
    ax.plot(*path(trial.design).T, color="0.75", lw=0.7)
if study.best is not None:
    ax.plot(
        *path(study.best.design).T, color="tab:blue", lw=2.5, label=f"best: {study.best.y[2]:.1f} J"
    )
    ax.legend()
ax.bar(40, 8, width=0.6, color="tab:brown")
ax.axvspan(58, 62, color="tab:green", alpha=0.3)
ax.set(
    xlabel="m",
    ylabel="m",
    xlim=(0, 90),
    ylim=(0, 40),
    title="all completed throws, and the best feasible one",
)
plt.show()

# %% [markdown]
# ## A random forest in a latent space
#
# A random forest predicts the slant of handwritten digits. Which digit has the largest
# prediction? The input has 64 pixels, but real digits occupy a small part of this space. Eight
# principal components decode to realistic images, and `Latent` fits the distribution of real
# codes. The *judge* is a regressor trained on other images; it takes no part in the search.
# Plausibility is a rank among held-out images.

# %%
from sklearn.decomposition import PCA
from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor

from bo_invert.generators.design_plausibility import DesignRealism
from bo_invert.problems.examples.digits import draw, load, slant

images = load()[0].reshape(-1, 64)[np.random.default_rng(0).permutation(1797)]
generator, training, other, held_out = np.split(images, [600, 1050, 1500])
pca = PCA(8).fit(generator)
forest = RandomForestRegressor(100, random_state=0).fit(training, slant(training))
judge = GradientBoostingRegressor(random_state=0).fit(other, slant(other))
latent = bi.Latent(
    pca.inverse_transform, dim=8, encoder=pca.transform, data=np.concatenate([generator, training])
)
slanted = bi.Problem(
    latent,
    forest,
    bi.Maximize("slant"),
    judge=judge,
    draw=draw,
    plausibility=DesignRealism(pca.transform, pca.inverse_transform, latent.measure, held_out),
    name="slant",
)

# %%
search = bi.Study.create("slant", slanted, seed=0)
bi.doctor(slanted, calls=LOOK, study=search)

# %% [markdown]
# The advice is followed: `auto`, one call after another, because a call takes milliseconds and an
# ask much longer. The note on the calibration is not: it means that 1.8 % instead of 5 % of the
# draws are as implausible as the least plausible held-out digits. The search therefore stays nearer
# to real digits than it has to, which is the safe side.

# %%
search.run(budget=BUDGET)
search.solutions(5)

# %% [markdown]
# ## Claims and verdicts
#
# The pictures above are drawn automatically, because designs of 64 numbers are square images. The
# table shows the claim of the forest, the value of the judge and the plausibility of each design.
# Here the true slant is known, because it is a formula. For a regressor of your own only
# the judge is available. A maximisation ends at the boundary of the plausible region: by default,
# 1 % of real codes lie farther out. `bi.Problem(..., realism=0.9)` selects a smaller region.

# %%
found = list(search.solutions(5))
fig, axes = plt.subplots(2, len(found), figsize=(2.1 * len(found), 5), squeeze=False)
for (top, bottom), one in zip(axes.T, found, strict=True):
    nearest = images[((images - one.design) ** 2).sum(axis=1).argmin()]
    top.imshow(draw(one.design), cmap="gray_r")
    top.set_title(
        f"forest {one.y[0]:.2f}\njudge {-one.judged:.2f}\nformula {slant(draw(one.design))[0]:.2f}",
        fontsize=9,
    )
    top.set_xlabel(f"plausibility {one.plausibility:.2f}", fontsize=8)
    bottom.imshow(nearest.reshape(8, 8), cmap="gray_r")
    bottom.set_xlabel("nearest real digit", fontsize=8)
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])
fig.tight_layout()
plt.show()

# %% [markdown]
# Both studies record their provenance: versions, and a hash of the program or of the fitted
# forest. Continuing a study with a changed oracle issues a warning.

# %%
from pprint import pprint

for one in (study, search):
    pprint(one.journal.header["provenance"], width=100, compact=True)
