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
# # Molecules: search in the latent of a SELFIES VAE
#
# Which molecule has the property that is wanted? A variational autoencoder turns molecules into 32 numbers and back;
# because it writes SELFIES, every one of its codes is a molecule. Searching these numbers is searching molecules, with
# few calls of whatever function scores them. Beside every score stands how realistic the molecule is: a search that is
# told to raise a number will raise it, by molecules that nobody would make if these are the easiest way.
#
# `pip install 'bo-invert[molecules,demo]'`

# %%
import os

import matplotlib.pyplot as plt
import numpy as np

import bo_invert as bi

short = bool(os.environ.get("BO_INVERT_SHORT"))  # set when the tests run this notebook
BUDGET = 20 if short else 200

# %% [markdown]
# ## Molecules to learn from
#
# `$BO_INVERT_MOLECULES` names a file with one SMILES a line: your own, or a part of ZINC-250k (29,445 of them are in
# `JTVAE/data/zinc/valid.txt` and `test.txt` of `github.com/pascalnotin/uncertainty_guided_optimization`). Without one
# this notebook makes a little library of its own, every amide of 20 acids and 20 amines: enough to see how it goes.

# %%
ACIDS = [
    "CC(=O)", "CCC(=O)", "CC(C)C(=O)", "O=C(c1ccccc1)", "O=C(c1ccncc1)", "O=C(c1cccnc1)", "O=C(C1CC1)", "O=C(C1CCCCC1)",
    "O=C(c1ccc(F)cc1)", "O=C(c1ccc(Cl)cc1)", "O=C(Cc1ccccc1)", "O=C(c1ccco1)", "O=C(c1cccs1)", "O=C(CCc1ccccc1)",
    "O=C(COc1ccccc1)", "O=C(c1cc[nH]n1)", "O=C(C1CCOC1)", "O=C(c1ccc2ccccc2c1)", "O=C(CC#N)", "O=C(c1ccc(C)cc1)",
]  # fmt: skip
AMINES = [
    "NC", "NCC", "N(C)C", "Nc1ccccc1", "NCc1ccccc1", "N1CCCCC1", "N1CCOCC1", "NC1CC1", "Nc1ccc(Cl)cc1", "NCC(C)C",
    "Nc1cccnc1", "NCCO", "N1CCN(C)CC1", "NC1CCCCC1", "Nc1ccc(F)cc1", "NCc1ccco1", "NCCc1ccccc1", "Nc1nccs1", "N1CCCC1",
    "Nc1ccc(OC)cc1",
]  # fmt: skip
amides = [acid + amine for acid in ACIDS for amine in AMINES]

if "BO_INVERT_MOLECULES" in os.environ and not short:
    options = {"progress": True}
else:
    small = {"hidden": 64, "channels": 16, "merges": 60, "epochs": 25, "learning_rate": 1e-2, "batch_size": 32}
    options = {"data": amides, "latent_dim": 8, "training": small}

# %% [markdown]
# ## The generator
#
# The first call trains it, some minutes on one core for 29,000 molecules; then it is in the cache.
# `reconstruction` is the share of held-out molecules that come back as they were from a cycle through the code,
# `validity` the share of draws that RDKit reads.

# %%
from bo_invert.problems.examples.molecules import materials

made = materials(**options)
print(len(made.smiles), "molecules;", made.training)

# %%
latent = made.latent
rng = np.random.default_rng(0)
drawn = latent.decode(latent.sample(rng, 8))


def show(smiles, titles):
    """Structural formulas side by side."""
    from bo_invert.problems.examples.molecules_properties import picture

    rows = -(-len(smiles) // 4)
    _, axes = plt.subplots(rows, 4, figsize=(12, 2.5 * rows), squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for ax, one, title in zip(axes.flat, smiles, titles, strict=False):
        ax.imshow(picture(one))
        ax.set_title(title, fontsize=8)
    plt.show()


show(drawn, [f"drawn; realism {r:.2f}" for r in made.realism(drawn)])

# %% [markdown]
# Realism is calibrated on molecules that nobody learnt from: 0.05 means that 95 % of real molecules look more real. It
# is the lower of two ranks, of the SA score (can it be made?) and of the Tanimoto similarity to the nearest known one.
#
# ## Drug-likeness, and a score that can be gamed
#
# QED lies in [0, 1] and real drugs come near its ceiling of 0.948. Penalised logP has no ceiling, and long greasy
# chains are its best friends. `spherical` is Bayesian optimization with a linear model, and asks within milliseconds.

# %%
studies = {}
for name in ("qed", "plogp"):
    problem = bi.ready_problem("molecules", property=name, **options)
    studies[name] = bi.Study.create(name, problem, strategy="spherical", seed=0)
    studies[name].run(BUDGET, batch=10)

for name, study in studies.items():
    told = {t.design: t.y[0] for t in study.trials if t.y is not None}
    best = sorted(told, key=told.get, reverse=True)[:4]
    show(best, [f"{name} {told[one]:.3f}; realism {r:.2f}" for one, r in zip(best, made.realism(best), strict=True)])

# %% [markdown]
# ## Against best-of-N and screening
#
# The same number of calls spent on draws from the generator, and on molecules of the file. Both are hard to beat on a
# score that real molecules are good at; `docs/molecules.md` has the figures for ten seeds and 500 calls.

# %%
from bo_invert.problems.examples.molecules_assets import PROPERTIES

for name, study in studies.items():
    rival = bi.Study.create(f"{name}, draws", study.problem, strategy="prior", seed=0)
    rival.run(BUDGET, batch=10)
    screened = max(PROPERTIES[name](made.smiles[i]) for i in rng.permutation(len(made.smiles))[:BUDGET])
    print(
        f"{name}: search {study.best.y[0]:.3f}, best of {BUDGET} draws {rival.best.y[0]:.3f}, screening {screened:.3f}"
    )

# %% [markdown]
# ## A regressor that is fooled
#
# Mostly there is no formula but a regressor that somebody trained. Here a random forest learnt penalised logP from
# fingerprints of half of the molecules. The search asks the forest; the judge, the exact value, scores what it returns.

# %%
fooled = bi.ready_problem("molecules", property="plogp", oracle="forest", **options)
study = bi.Study.create("forest", fooled, strategy="auto", seed=0)
study.run(BUDGET, batch=10)
found = study.solutions(4)
show(
    [one.trial.design for one in found],
    [f"forest {-one.loss:.2f}, exact {-one.judged:.2f}, realism {one.plausibility:.2f}" for one in found],
)
found

# %% [markdown]
# ## A target of two properties
#
# "logP of 2.5 and a QED of 0.8" is an inverse problem. Beside the find: the known molecule that is most similar to it.

# %%
wanted = bi.ready_problem("molecules", target={"qed": 0.8, "logp": 2.5}, tolerance=0.02, **options)
study = bi.Study.create("target", wanted, strategy="auto", seed=0)
study.run(BUDGET, batch=10, stop_when_hit=True)
found = study.best.design
show([found, made.realism.nearest([found])[0]], [f"found: {np.round(study.best.y, 3)}", "the nearest known"])
print(study.spent)
