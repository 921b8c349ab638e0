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
# # Your own oracle: a program that crashes, and a forest behind a latent
#
# Two oracles without a gradient. The first is a program in another language, which sometimes crashes and sometimes
# never ends. The second is a random forest of scikit-learn, whose designs are images and are searched through a latent.
# Before either is searched, `bi.doctor` looks at it.

# %%
import os
import subprocess
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import bo_invert as bi

short = bool(os.environ.get("BO_INVERT_SHORT"))  # set when the tests run this notebook
LOOK, BUDGET = (12, 20) if short else (30, 80)
folder = Path(tempfile.mkdtemp())

# %% [markdown]
# ## A program
#
# A ball is thrown with spin over a wall of 8 m that stands 40 m away, and should land near 60 m. Somebody wrote the
# simulation in awk, a language that knows nothing of Python or gradients. It answers in a sentence, as old programs do.
# It has moods, too: a ball that does not reach the wall ends it with exit code 3, fast balls make it unstable, and with
# much backspin at a steep angle its step becomes zero, so that it never ends.

# %%
script = folder / "throw.awk"
script.write_text("""
BEGIN {
    x = 0; y = 1.5; a = angle * atan2(0, -1) / 180; u = speed * cos(a); v = speed * sin(a); dt = 0.005; wall = -1
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
# `bi.Command` runs it for every design. Values of the design stand in braces, and a pattern with named groups reads the
# answer. Exit code 3 says that a design can never be evaluated; anything else that goes wrong is a failure, and a run
# that takes longer than a second is ended. All of that is billed, and none of it stops a study.

# %%
import re

program = bi.Command(
    ["awk", "-v", "speed={speed}", "-v", "angle={angle}", "-v", "spin={spin}", "-f", script],
    input=None,
    output=re.compile(r"lands at (?P<range>\S+) m, (?P<clearance>\S+) m above .* for (?P<energy>\S+) J"),
    timeout=1.0,
    infeasible=3,
)
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
# ## The doctor first
#
# A few calls tell whether the oracle is steady, how long it takes, how often it fails, and which strategy the numbers
# speak for. The calls are not wasted: with `study=` the answers go into the study, which is billed for them.

# %%
study = bi.Study.create("throw", throw, seed=0)
bi.doctor(throw, calls=LOOK, study=study)

# %%
study.run(budget=BUDGET, executor="threads", batch=2)
study

# %% [markdown]
# What failed was paid for, and is listed with its reason; the search learnt to stay away.

# %%
frame = study.to_dataframe()
frame[frame["state"] != "completed"].groupby(["state", "reason"]).size().rename("trials").to_frame()


# %%
def path(design: dict) -> np.ndarray:
    """Where the ball flies, shape (steps, 2); the same program says it."""
    values = [f"{key}={value!r}" for key, value in {**design, "trace": 1}.items()]
    argv = ["awk", *(word for value in values for word in ("-v", value)), "-f", str(script)]
    return np.array(
        [line.split() for line in subprocess.run(argv, capture_output=True, text=True).stdout.splitlines()], float
    )


fig, ax = plt.subplots(figsize=(8, 3.6))
for trial in study.history.completed:
    ax.plot(*path(trial.design).T, color="0.75", lw=0.7)
if study.best is not None:
    ax.plot(*path(study.best.design).T, color="tab:blue", lw=2.5, label=f"best: {study.best.y[2]:.1f} J")
    ax.legend()
ax.bar(40, 8, width=0.6, color="tab:brown")
ax.axvspan(58, 62, color="tab:green", alpha=0.3)
ax.set(
    xlabel="m", ylabel="m", xlim=(0, 90), ylim=(0, 40), title="every throw that was answered, and the best allowed one"
)
plt.show()

# %% [markdown]
# ## A forest behind a latent
#
# A random forest has learnt the slant of handwritten digits. Which digit would it call the most slanted? Its input has
# 64 pixels, but real digits fill a small part of these: eight principal components decode to images that look like
# digits, and where real codes lie is measured. A *judge*, another regressor that learnt from other images, never takes
# part in the search and gives a second opinion; plausibility is ranked among images that nobody was taught.

# %%
from sklearn.decomposition import PCA
from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor

from bo_invert.generators.design_plausibility import DesignRealism
from bo_invert.problems.examples.digits import draw, slant
from bo_invert.problems.examples.digits_assets import load

images = load()[0].reshape(-1, 64)[np.random.default_rng(0).permutation(1797)]
generator, taught, other, held_out = np.split(images, [600, 1050, 1500])
pca = PCA(8).fit(generator)
forest = RandomForestRegressor(100, random_state=0).fit(taught, slant(taught))
judge = GradientBoostingRegressor(random_state=0).fit(other, slant(other))
latent = bi.Latent(pca.inverse_transform, dim=8, encoder=pca.transform, data=np.concatenate([generator, taught]))
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

# %%
search.run(budget=BUDGET)
search.solutions(5)

# %% [markdown]
# ## What to believe
#
# The table says what the forest claims, what the judge makes of it, and how plausible each design is. Here the truth is
# known as well, because slant is a formula; with a regressor of your own it is not, and the judge is what you have.
# Looking for the most of something ends at the edge of what is plausible: here that is where 1 % of real codes lie
# farther out, and `bi.Problem(..., realism=0.9)` would stay farther inside.

# %%
found = list(search.solutions(5))
fig, axes = plt.subplots(2, len(found), figsize=(2.1 * len(found), 5), squeeze=False)
for (top, bottom), one in zip(axes.T, found, strict=True):
    nearest = images[((images - one.design) ** 2).sum(axis=1).argmin()]
    top.imshow(draw(one.design), cmap="gray_r")
    top.set_title(
        f"forest {one.y[0]:.2f}\njudge {-one.judged:.2f}\nformula {slant(draw(one.design))[0]:.2f}", fontsize=9
    )
    top.set_xlabel(f"plausibility {one.plausibility:.2f}", fontsize=8)
    bottom.imshow(nearest.reshape(8, 8), cmap="gray_r")
    bottom.set_xlabel("nearest real digit", fontsize=8)
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])
fig.tight_layout()
plt.show()

# %% [markdown]
# Both studies know what they were made with: the versions, and a hash of the program, or of the fitted forest. Going on
# with one after the oracle has changed gives a warning.

# %%
from bo_invert.problems.provenance import told

for one in (study, search):
    print(*(f"{what}: {which}" for what, which in told(one.journal.header["provenance"])), sep="\n", end="\n\n")
