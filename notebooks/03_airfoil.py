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
# # Airfoils: errors of a regressor and their prevention
#
# A small neural network predicts lift and drag of an airfoil from its shape. Which airfoil has
# the best predicted ratio of lift to drag? An optimiser answers within seconds, and the answer is
# usually wrong: a search for the maximum of a network exploits its errors. This notebook shows
# the effect with a judge, and a way to prevent it.
#
# The networks are NeuralFoil's: eight networks fitted to XFoil, from `xxsmall` to `xxxlarge`. The
# smallest is searched, the largest is the judge. Required: `pip install 'bo-invert[airfoil]'`.

# %%
import os

import matplotlib.pyplot as plt
import numpy as np
import torch

import bo_invert as bi

short = bool(os.environ.get("BO_INVERT_SHORT"))  # set by the tests
BUDGET, SEEDS = (8, 1) if short else (150, 3)

# %% [markdown]
# ## Real airfoils
#
# A design has 18 Kulfan parameters: eight weights of each surface, one of the leading edge, and
# the thickness of the trailing edge. `database()` contains them for the 2,174 airfoils of
# AeroSandbox. On these airfoils the small network is fairly accurate:

# %%
from bo_invert.problems.examples.airfoil import NeuralFoil, database, draw

real = database()
shapes = torch.as_tensor(real.designs.copy())
small, large = NeuralFoil("xxsmall")(shapes).numpy(), NeuralFoil("xxxlarge")(shapes).numpy()
trusted = (small[:, 4] >= 0.9) & (large[:, 4] >= 0.9)

fig, ax = plt.subplots(figsize=(4.6, 4.2))
ax.scatter(large[trusted, 0], small[trusted, 0], s=4, alpha=0.4)
ax.plot([0, 230], [0, 230], color="black", linewidth=0.8)
ax.set(xlabel="L/D, judge", ylabel="L/D, small network", title="2,174 real airfoils")
plt.show()
best = int(np.where(trusted, small[:, 0], 0.0).argmax())
print(f"best airfoil: {real.names[best]}, L/D {small[best, 0]:.0f}, judge {large[best, 0]:.0f}")

# %% [markdown]
# ## Search over the raw parameters
#
# The search space has 18 parameters, each between the 1 % and the 99 % quantile of the real
# airfoils. The objective is the largest ratio of lift to drag, at an angle of attack of 4 degrees
# and a Reynolds number of a million. The confidence of the network must be at least 0.9. Gradient
# descent is the strongest attack on a differentiable network.

# %%
box = bi.ready_problem("airfoil", space="box")
raw = bi.Study.create("raw", box, "gradient", seed=0).run(300)


def verdict(study):
    """Return the best design of a study, and its claim, verdict and plausibility as text."""
    design = study.best.design
    (opinion,), _ = study.problem.second_opinions([design])
    plausibility = float(study.problem.plausibility([design])[0])
    scores = f"claim {study.best.y[0]:.0f}, judge {opinion.y[0]:.0f}"
    return design, f"{scores}\nplausibility {plausibility:.2f}"


def show(columns):
    _, axes = plt.subplots(1, len(columns), figsize=(4.2 * len(columns), 2.2))
    for axis, (design, words) in zip(np.atleast_1d(axes), columns, strict=True):
        axis.imshow(draw(design, width=400))
        axis.set_title(words, fontsize=10)
        axis.axis("off")
    plt.show()


design, words = verdict(raw)
nearest = real.nearest([design])[0]
show([(design, words), (real.designs[nearest], f"nearest real airfoil\n{real.names[nearest]}")])

# %% [markdown]
# The confidence constraint does not help, because the confidence is an output of the same
# network. A restriction of the search to realistic airfoils helps.
#
# ## A latent space of real airfoils
#
# The heights of the surfaces are linear in the Kulfan parameters. Their first six principal
# components hold 99.7 % of the variance among airfoils. `Latent` fits a mixture to the real
# airfoils in these coordinates and calibrates it on held-out airfoils. `realism=0.95` restricts
# every strategy to the region that holds 95 % of them.

# %%
problem = bi.ready_problem("airfoil", realism=0.95)
draws = problem.space.decode(problem.space.sample(np.random.default_rng(0), 4))
show(
    [
        (design, f"a sample\nplausibility {problem.plausibility([design])[0]:.2f}")
        for design in draws
    ]
)

# %%
study = bi.Study.create("latent", problem, "gp", seed=0).run(BUDGET, batch=4)
show([verdict(study), verdict(raw)])
study

# %% [markdown]
# ## Comparison with other methods
#
# Every method gets the same number of calls. `screening` evaluates real airfoils, `best of N`
# samples of the latent prior. A search is useful only if it beats these two.

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
ax.set(xlabel="L/D, judge", ylabel="L/D, claimed", title="above the line: overestimated")
ax.legend(fontsize=8)
plt.show()

# %%
from IPython.display import Image

from bo_invert.report.gallery import gallery_png

Image(gallery_png(comparison.runs, columns=3), width=760)

# %% [markdown]
# ## Given lift and moment, least drag
#
# The required coefficients are constraints, and drag is minimised.

# %%
wanted = bi.ready_problem("airfoil", target=(0.8, -0.05), tolerance=(0.02, 0.005))
print(wanted)
wing = bi.Study.create("wing", wanted, "gp", seed=0).run(max(12, BUDGET // 2), batch=4)
if wing.best is not None:
    (opinion,), _ = wanted.second_opinions([wing.best.design])
    for name, claimed, judged in zip(wanted.outputs, wing.best.y, opinion.y, strict=True):
        print(f"{name:>16}: {claimed:8.4f}, judge {judged:8.4f}")
    show([(wing.best.design, "lift 0.8 and moment -0.05 (small network)")])

# %% [markdown]
# The judge is a network as well, fitted to XFoil like the small one. Designs that it confirms
# still need a wind tunnel test. The documentation page on airfoils has ten seeds, more methods,
# and results for other flows.
