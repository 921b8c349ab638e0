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
# # All questions about a target
#
# A simulator has two inputs and one output, $y = \sin(3 \pi x_0) + \cos(3 \pi x_1)$. Which inputs
# give y = 1.8? There are several separate regions of solutions. This notebook finds one solution,
# then all of them. It then asks which targets can be reached, moves to a second target, and returns
# the tolerances of a design. All answers use one log of calls.

# %%
import os

import bo_invert as bi

short = bool(os.environ.get("BO_INVERT_SHORT"))  # set by the tests
BUDGET, SAMPLES = (16, 100) if short else (90, 1000)

# %% [markdown]
# ## One solution
#
# The target is 1.8, plus or minus 0.05. The run stops at the first design that reaches it.

# %%
problem = bi.ready_problem("sine", target=[1.8], tolerance=0.05)
study = bi.Study.create("sine", problem, seed=0)
study.run(budget=BUDGET)
study

# %% [markdown]
# ## All solutions
#
# `find="all"` continues the search. Each call confirms a region of solutions, or decides where the
# model is uncertain. A *branch* is a connected region. The table begins with one design of each
# branch.

# %%
study.run(budget=BUDGET, find="all")
print(study.spent, study.ended)
study.solutions(8)

# %% [markdown]
# ## The posterior of designs
#
# The posterior is the distribution of all designs that meet the target. The plot has one colour for
# each branch. Stars are designs that a call has confirmed.

# %%
posterior = study.posterior(SAMPLES)
posterior.plot()

# %% [markdown]
# ## Which targets can be reached?
#
# The same model gives the probability that some design reaches a value. The true range is -2 to 2.

# %%
region = study.reachable()
region.plot()

# %% [markdown]
# ## Can this target be reached?
#
# A study for another target starts with the calls of the first one. `stop="verdict"` ends the run
# when the target is out of reach. The verdict names the nearest output and what limits it.

# %%
beyond = study.retarget([2.5])
beyond.run(budget=15, stop="verdict")
beyond.verdict()

# %% [markdown]
# ## A second target in a few calls
#
# The model also predicts a design for a second target, before any call. A few calls confirm it. The
# tolerance is ten times narrower, so that no call of the log meets the target by chance.

# %%
second = study.retarget(bi.Target([-1.2], tolerance=0.005))
print(second.predicted_solution())
second.run(budget=12)
print(second.best.y, "after", second.spent)

# %% [markdown]
# ## Tolerances of a design
#
# How accurately must the chosen design be made? The table has the interval of each input alone, and
# a box for both inputs together. The oracle checks the box with a few calls.

# %%
hits = [one for one in study.solutions(8) if one.branch is not None]
limits = hits[0].tolerances(calls=0 if short else 10) if hits else None
limits

# %% [markdown]
# The points of the log and the model of the output show why there are several branches.

# %%
from IPython.display import Image

Image(study.plot.contour().image(width=800), width=600)

# %% [markdown]
# The documentation page "All solutions of a target" explains the methods and has benchmarks.
