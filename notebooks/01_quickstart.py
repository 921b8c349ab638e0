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
# # Quickstart: invert a trained regressor through a VAE's latent
#
# Somebody trained a random forest that reads the slant of a handwritten digit. Which image would it call the most
# slanted? Which one has a slant of exactly 0.5? The forest has no gradient, and images have 64 pixels. The way out: a
# VAE whose latent of 8 numbers decodes to realistic digits, and a search of that latent with few calls.
#
# `bo-invert demo` does all of this in one go. Here it is step by step.

# %%
import os

import numpy as np

import bo_invert as bi

short = bool(os.environ.get("BO_INVERT_SHORT"))  # set when the tests run this notebook
BUDGET, SEEDS = (16, 2) if short else (60, 5)

# %% [markdown]
# ## The pieces
#
# Real digits, a VAE, a forest, a network trained on the same images (the forest's *twin*: it lends its gradient), and a
# *judge*: another regressor, trained on other images, that no search ever sees.

# %%
from bo_invert.problems.examples.digits import materials

made = materials(seed=0)
made.scores()  # R squared on images nobody was trained on

# %% [markdown]
# ## The problem
#
# A problem is a space, an oracle and an objective. `Latent` measures where the codes of real digits lie; it does not
# assume that they follow N(0, I). `Twin` takes values from the forest and gradients from the network.

# %%
from bo_invert.problems.examples.digits import draw, slant

oracle = bi.Twin(bi.Estimator(made.forest), bi.TorchModule(made.network))
problem = bi.Problem(
    made.latent,
    oracle,
    bi.Target(0.5, tolerance=0.002),
    name="slant 0.5",
    judge=bi.Estimator(made.judge),
    draw=draw,
    plausibility=made.realism,
)
problem.statement.domain.dim, problem.differentiable

# %% [markdown]
# ## A study
#
# One problem, one strategy, one seed, one log. `gp` is Bayesian optimization: a Gaussian process of the slant over the
# latent proposes the next point. The run stops when the slant is within the tolerance.

# %%
study = bi.Study.create("quickstart", problem, strategy="gp", seed=0)
study.run(budget=BUDGET)
study

# %%
best = study.best
print("forest says", best.y, "after", study.spent)
print("judge says ", bi.Estimator(made.judge)([best.design])[0])
print("the formula", slant(best.design))

# %% [markdown]
# ## Ask and tell
#
# No function to call? Ask for points, evaluate them wherever you like, and tell what came of them. Failures are news,
# not the end.

# %%
manual = bi.Study.create("by hand", problem, strategy="gp", seed=1)
for trial in manual.ask(3):
    answer = float(made.forest.predict(trial.design.reshape(1, -1))[0])
    manual.tell(trial, answer if trial.number else bi.Failed("dropped the sample"))
manual.to_dataframe()[["number", "state", "origin", "y", "loss", "reason"]]

# %% [markdown]
# ## Fair rivals
#
# The same problem, seeds and number of calls for every method: best of N draws from the prior, CMA-ES, gradient descent
# in the latent, and gradient descent on pixels (Deep Dream), which needs a space of its own.

# %%
pixels = bi.Pixels((8, 8), data=made.part("generator"), jitter=1, tv=0.05, l2=0.01)
common = {"judge": bi.Estimator(made.judge), "draw": draw, "plausibility": made.realism}
largest = bi.Problem(made.latent, oracle, bi.Maximize(), name="largest slant", **common)
dream = bi.Problem(pixels, oracle, bi.Maximize(), name="largest slant", **common)

comparison = bi.compare(
    largest,
    {
        "gp": "gp",
        "CMA-ES": "cmaes",
        "best of N": "prior",
        "gradient": "gradient",
        "deep dream": (dream, "gradient"),
    },
    budget=BUDGET,
    seeds=range(SEEDS),
)
comparison

# %%
print(comparison.summary())

# %% [markdown]
# ## The pictures
#
# What each method found, one design per seed, each beside the nearest real digit.

# %%
from IPython.display import Image

from bo_invert.report.gallery import gallery_png

Image(gallery_png(comparison.runs, made.images, columns=5), width=900)

# %%
import matplotlib.pyplot as plt

fig, ax = plt.subplots(figsize=(7, 3.5))
for label in dict.fromkeys(run.label for run in comparison.runs):
    runs = [run for run in comparison.runs if run.label == label]
    calls = np.arange(1, BUDGET + 1)
    curves = -np.array([run.loss_at(calls) for run in runs])
    ax.plot(calls, np.median(np.where(np.isfinite(curves), curves, np.nan), axis=0), label=label)
ax.set(xlabel="calls (values + gradients)", ylabel="largest slant claimed", title="median over seeds")
ax.legend()
plt.show()

# %% [markdown]
# ## Nothing is lost
#
# With `storage="sqlite:///runs.db"` every study is an append-only log in a file. Kill the process, run the same cell
# again with `exist_ok=True`, and the search goes on with exactly the points it would have proposed anyway. Where next:
# the documentation's pages on concepts, on choosing a strategy, and on extending.
