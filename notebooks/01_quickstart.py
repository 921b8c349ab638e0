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
# # Quickstart: invert a trained regressor in the latent space of a VAE
#
# A random forest predicts the slant of a handwritten digit. Two questions: which image has the
# largest predicted slant, and which image has a predicted slant of exactly 0.5? The forest has no
# gradient, and images have 64 pixels. This notebook searches the latent space of a VAE instead: 8
# coordinates that decode to realistic digits.
#
# `bo-invert demo` runs all of this at once. The cells below show each step.

# %%
import os

import numpy as np

import bo_invert as bi

short = bool(os.environ.get("BO_INVERT_SHORT"))  # set by the tests
BUDGET, SEEDS = (6, 1) if short else (60, 5)

# %% [markdown]
# ## Components
#
# The components are real digits, a VAE, a random forest, a gradient proxy and a judge. The
# *gradient proxy* is a network trained on the same images as the forest; it provides gradients.
# The *judge* is a regressor trained on other images; no search sees it.

# %%
from bo_invert.problems.examples.digits import materials

made = materials(seed=0)
made.scores()  # R squared on held-out images

# %% [markdown]
# ## The problem
#
# A problem is a space, an oracle and an objective. `Latent` fits the distribution of the codes of
# real digits instead of assuming N(0, I). The oracle takes values from the forest and gradients
# from the network.

# %%
from bo_invert.problems.examples.digits import draw, slant

oracle = bi.GradientProxy(bi.Estimator(made.forest), bi.TorchModule(made.network))
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
# A study is one problem, one strategy, one seed and one log. The strategy `gp` is Bayesian
# optimization: a Gaussian process of the slant over the latent space selects the next point. The
# run stops when the slant is within the tolerance.

# %%
study = bi.Study.create("quickstart", problem, strategy="gp", seed=0)
study.run(budget=BUDGET)
study

# %%
best = study.best
print("forest: ", best.y, "after", study.spent)
print("judge:  ", bi.Estimator(made.judge)([best.design])[0])
print("formula:", slant(best.design))

# %% [markdown]
# ## Ask and tell
#
# Without a function to call, ask for points, evaluate them elsewhere, and report the results.
# Failures are valid results.

# %%
manual = bi.Study.create("by hand", problem, strategy="gp", seed=1)
for trial in manual.ask(3):
    answer = float(made.forest.predict(trial.design.reshape(1, -1))[0])
    manual.tell(trial, answer if trial.number else bi.FailedError("dropped the sample"))
manual.to_dataframe()[["number", "state", "origin", "y", "loss", "reason"]]

# %% [markdown]
# ## Comparison with other methods
#
# Every method gets the same problem, seeds and number of calls: best of N samples of the latent
# prior, CMA-ES, gradient descent in the latent space, and gradient descent on pixels (Deep Dream)
# in a space of its own.

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
# ## Designs
#
# The figure shows the best design of each method for each seed, beside the nearest real digit.

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
ax.set(
    xlabel="calls (values + gradients)", ylabel="largest slant claimed", title="median over seeds"
)
ax.legend()
plt.show()

# %% [markdown]
# ## Persistent studies
#
# With `storage="sqlite:///runs.db"` a study is an append-only log in a file. After a crash, the
# same cell with `exist_ok=True` continues the study and proposes the same points as an
# uninterrupted run. See the documentation on concepts, on choosing a strategy, and on extending.
