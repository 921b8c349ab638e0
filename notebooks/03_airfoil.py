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
# # Airfoils: being fooled, and how not to be
#
# Somebody trained a small network that reads lift and drag off the shape of an airfoil. Which airfoil would it call the
# most efficient? An optimiser answers in seconds, and the answer is mostly wrong: whoever maximises what a network says
# finds where the network errs. Here that is watched happening, with a judge in the room, and then prevented.
#
# The networks are NeuralFoil's: eight of them, fitted to XFoil, from `xxsmall` to `xxxlarge`. The smallest is attacked,
# the largest judges. This notebook needs `pip install 'bo-invert[airfoil]'`.

# %%
import os

import matplotlib.pyplot as plt
import numpy as np
import torch

import bo_invert as bi

short = bool(os.environ.get("BO_INVERT_SHORT"))  # set when the tests run this notebook
BUDGET, SEEDS = (24, 2) if short else (150, 3)

# %% [markdown]
# ## The real ones
#
# A design is 18 Kulfan numbers: eight weights of each surface, one of the leading edge, the thickness of the trailing
# edge. `database()` has them for the 2,174 airfoils of AeroSandbox. On these the small network is not bad:

# %%
from bo_invert.problems.examples.airfoil import NeuralFoil, database, draw

real = database()
shapes = torch.as_tensor(real.designs.copy())
small, large = NeuralFoil("xxsmall")(shapes).numpy(), NeuralFoil("xxxlarge")(shapes).numpy()
trusted = (small[:, 4] >= 0.9) & (large[:, 4] >= 0.9)

fig, ax = plt.subplots(figsize=(4.6, 4.2))
ax.scatter(large[trusted, 0], small[trusted, 0], s=4, alpha=0.4)
ax.plot([0, 230], [0, 230], color="black", linewidth=0.8)
ax.set(xlabel="L/D, the judge says", ylabel="L/D, the small network says", title="2,174 real airfoils")
plt.show()
best = int(np.where(trusted, small[:, 0], 0.0).argmax())
print(f"its favourite is {real.names[best]}: L/D {small[best, 0]:.0f}, the judge says {large[best, 0]:.0f}")

# %% [markdown]
# ## Fooled
#
# Search the 18 numbers themselves, each between the 1 % and the 99 % quantile of the real airfoils, for the greatest
# lift per drag, 4 degrees to the wind, at a Reynolds number of a million. The network must be confident in its own
# answer (at least 0.9). Gradient descent is the strongest attack on a network that is differentiable.

# %%
box = bi.ready_problem("airfoil", space="box")
attack = bi.Study.create("attack", box, "gradient", seed=0).run(300)


def verdict(study):
    """The best design of a study, with what is claimed of it and what the judge says."""
    design = study.best.design
    (opinion,), _ = study.problem.second_opinions([design])
    realism = float(study.problem.plausibility([design])[0])
    return design, f"claimed {study.best.y[0]:.0f}, judged {opinion.y[0]:.0f}\nrealism {realism:.2f}"


def show(columns):
    _, axes = plt.subplots(1, len(columns), figsize=(4.2 * len(columns), 2.2))
    for axis, (design, words) in zip(np.atleast_1d(axes), columns, strict=True):
        axis.imshow(draw(design, width=400))
        axis.set_title(words, fontsize=10)
        axis.axis("off")
    plt.show()


design, words = verdict(attack)
nearest = real.nearest([design])[0]
show([(design, words), (real.designs[nearest], f"the nearest real one\n{real.names[nearest]}")])

# %% [markdown]
# The confidence did not help: it is the same network's. What helps is to search where real airfoils are.
#
# ## A latent of real airfoils
#
# The heights of the surfaces are linear in the Kulfan numbers, and their first six principal components hold 99.7 % of
# how airfoils differ. `Latent` measures where the real ones lie in these coordinates (a mixture, calibrated on airfoils
# it was not fitted to), and a problem's `realism=0.95` keeps every strategy to the region that holds 95 % of them.

# %%
problem = bi.ready_problem("airfoil", realism=0.95)
draws = problem.space.decode(problem.space.sample(np.random.default_rng(0), 4))
show([(design, f"a draw\nrealism {problem.plausibility([design])[0]:.2f}") for design in draws])

# %%
study = bi.Study.create("latent", problem, "gp", seed=0).run(BUDGET, batch=4)
show([verdict(study), verdict(attack)])
study

# %% [markdown]
# ## Fair rivals
#
# The same number of calls for everybody. `screening` scores real airfoils as they are, `best of N` draws from the
# latent: what does not beat these two is no result.

# %%
screening = bi.ready_problem("airfoil", space="database")
comparison = bi.compare(
    {"L/D": problem},
    {
        "gp": "gp",
        "CMA-ES": "cmaes",
        "gradient": "gradient",
        "best of N": "prior",
        "screening": (screening, "sobol"),
        "gradient in the box": (box, "gradient"),
        "CMA-ES in the box": (box, "cmaes"),
    },
    budget=BUDGET,
    batch=4,
    seeds=range(SEEDS),
)
comparison

# %%
fig, ax = plt.subplots(figsize=(5.6, 4.6))
for label in dict.fromkeys(run.label for run in comparison.runs):
    finds = [run.best for run in comparison.runs if run.label == label and run.best is not None]
    ax.scatter([-find.judged for find in finds], [-find.loss for find in finds], label=label, s=36)
ax.plot([60, 230], [60, 230], color="black", linewidth=0.8)
ax.set(xlabel="L/D, the judge says", ylabel="L/D, claimed", title="above the line: overrated")
ax.legend(fontsize=8)
plt.show()

# %%
from IPython.display import Image

from bo_invert.report.gallery import gallery_png

Image(gallery_png(comparison.runs, columns=3), width=760)

# %% [markdown]
# ## Lift and moment as wanted, at the least drag
#
# A target with an objective behind it: the wanted coefficients are constraints, and drag is minimised.

# %%
wanted = bi.ready_problem("airfoil", target=(0.8, -0.05), tolerance=(0.02, 0.005))
print(wanted)
wing = bi.Study.create("wing", wanted, "gp", seed=0).run(max(30, BUDGET // 2), batch=4)
if wing.best is not None:
    (opinion,), _ = wanted.second_opinions([wing.best.design])
    for name, told, judged in zip(wanted.outputs, wing.best.y, opinion.y, strict=True):
        print(f"{name:>16}: {told:8.4f}, the judge says {judged:8.4f}")
    show([(wing.best.design, "lift 0.8 and moment -0.05, says the small network")])

# %% [markdown]
# The judge is a network too, and was fitted to XFoil as the small one was: what it upholds still has to go to the wind
# tunnel. The page on airfoils in the documentation has ten seeds, more rivals, and what other flows say.
