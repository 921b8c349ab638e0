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
# # Molecules: search in the latent space of a SELFIES VAE
#
# **What this notebook is for.** It shows the parts of a search for molecules: generator, scores,
# plausibility, judge and target. It runs on a library of 400 amides, so that everything is trained
# within seconds. There the search does *not* beat samples or screening: the generator of so few
# molecules hardly leaves them, and 200 calls see half of the library.
#
# With a real library it does where a score has no maximum among the known molecules. On 29,445
# molecules of ZINC and with 500 calls, the median penalised logP over ten seeds is 4.87 for `auto`,
# 4.28 for samples of the generator, and 3.49 for screening; the best known molecule has 4.22. The
# lead over screening is significant, the lead over samples is so for CMA-ES only (5.08). For QED, a
# score that known molecules already maximise, screening suffices. `docs/molecules.md` has all
# results. Set `BO_INVERT_MOLECULES` to run this notebook on such a file.
#
# Which molecule has a required property? A variational autoencoder maps molecules to 32 numbers
# and back. It generates SELFIES, so that every code decodes to a valid molecule. A search over
# codes is a search over molecules, with few calls of any scoring function. Each score is shown
# with a plausibility, because a search for a maximum may otherwise find molecules that cannot be
# made.
#
# Required: `pip install 'bo-invert[molecules,demo]'`

# %%
import os

import matplotlib.pyplot as plt
import numpy as np

import bo_invert as bi

short = bool(os.environ.get("BO_INVERT_SHORT"))  # set by the tests
BUDGET = 20 if short else 200

# %% [markdown]
# ## Training molecules
#
# `$BO_INVERT_MOLECULES` names a file with one SMILES per line: your own, or a part of ZINC-250k
# (29,445 of them are in `JTVAE/data/zinc/valid.txt` and `test.txt` of
# `github.com/pascalnotin/uncertainty_guided_optimization`). Without a file, this notebook
# generates a small library: all amides of 20 acids and 20 amines.

# %%
ACIDS = """
    CC(=O) CCC(=O) CC(C)C(=O) O=C(c1ccccc1) O=C(c1ccncc1) O=C(c1cccnc1) O=C(C1CC1) O=C(C1CCCCC1)
    O=C(c1ccc(F)cc1) O=C(c1ccc(Cl)cc1) O=C(Cc1ccccc1) O=C(c1ccco1) O=C(c1cccs1) O=C(CCc1ccccc1)
    O=C(COc1ccccc1) O=C(c1cc[nH]n1) O=C(C1CCOC1) O=C(c1ccc2ccccc2c1) O=C(CC#N) O=C(c1ccc(C)cc1)
"""
AMINES = """
    NC NCC N(C)C Nc1ccccc1 NCc1ccccc1 N1CCCCC1 N1CCOCC1 NC1CC1 Nc1ccc(Cl)cc1 NCC(C)C Nc1cccnc1
    NCCO N1CCN(C)CC1 NC1CCCCC1 Nc1ccc(F)cc1 NCc1ccco1 NCCc1ccccc1 Nc1nccs1 N1CCCC1 Nc1ccc(OC)cc1
"""
amides = [acid + amine for acid in ACIDS.split() for amine in AMINES.split()]

if "BO_INVERT_MOLECULES" in os.environ and not short:
    options = {"progress": True}
else:
    small = {
        "hidden": 64,
        "channels": 16,
        "merges": 60,
        "epochs": 25,
        "learning_rate": 1e-2,
        "batch_size": 32,
    }
    options = {"data": amides, "latent_dim": 8, "training": small}

# %% [markdown]
# ## The generator
#
# The first call trains the generator, which takes minutes on one core for 29,000 molecules. Later
# calls read it from the cache. `reconstruction` is the share of held-out molecules that are
# reconstructed exactly, `validity` the share of samples that RDKit can parse.

# %%
from bo_invert.problems.examples.molecules import materials

made = materials(**options)
print(len(made.smiles), "molecules;", made.training)

# %%
latent = made.latent
rng = np.random.default_rng(0)
samples = latent.decode(latent.sample(rng, 8))


def show(smiles, titles):
    """Draw structural formulas side by side."""
    from bo_invert.problems.examples.molecules_properties import picture

    rows = -(-len(smiles) // 4)
    _, axes = plt.subplots(rows, 4, figsize=(12, 2.5 * rows), squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for ax, one, title in zip(axes.flat, smiles, titles, strict=False):
        ax.imshow(picture(one))
        ax.set_title(title, fontsize=8)
    plt.show()


show(samples, [f"sample; plausibility {r:.2f}" for r in made.realism(samples)])

# %% [markdown]
# Plausibility is calibrated on held-out molecules: 0.05 means that 95 % of real molecules are
# more plausible. It is the lower of two ranks: of the SA score (synthetic accessibility) and of
# the Tanimoto similarity to the nearest known molecule.
#
# ## Drug-likeness, and a score without a maximum
#
# QED lies in [0, 1], and real drugs come near its maximum of 0.948. Penalised logP has no maximum
# and favours long greasy chains. The strategy `spherical` is Bayesian optimization with a linear
# model; an ask takes milliseconds.

# %%
studies = {}
for name in ("qed", "plogp"):
    problem = bi.ready_problem("molecules", property=name, **options)
    studies[name] = bi.Study.create(name, problem, strategy="spherical", seed=0)
    studies[name].run(BUDGET, batch=10)

for name, study in studies.items():
    scores = {t.design: t.y[0] for t in study.trials if t.y is not None}
    best = sorted(scores, key=scores.get, reverse=True)[:4]
    show(
        best,
        [
            f"{name} {scores[one]:.3f}; plausibility {r:.2f}"
            for one, r in zip(best, made.realism(best), strict=True)
        ],
    )

# %% [markdown]
# ## Best of N and screening
#
# The same number of calls is spent on samples of the generator, and on molecules of the file.
# Both are strong baselines for scores that real molecules already achieve. On the small library
# they equal the search, see the top of this notebook.

# %%
from bo_invert.problems.examples.molecules import PROPERTIES

for name, study in studies.items():
    prior = bi.Study.create(f"{name}, prior", study.problem, strategy="prior", seed=0)
    prior.run(BUDGET, batch=10)
    screened = max(
        PROPERTIES[name](made.smiles[i]) for i in rng.permutation(len(made.smiles))[:BUDGET]
    )
    print(
        f"{name}: search {study.best.y[0]:.3f}, best of {BUDGET} samples "
        f"{prior.best.y[0]:.3f}, screening {screened:.3f}"
    )

# %% [markdown]
# ## Errors of a regressor
#
# Often the property is predicted by a regressor. Here a random forest is trained on penalised
# logP from fingerprints of half of the molecules. The search calls the forest. The judge is the
# exact value.

# %%
predicted = bi.ready_problem("molecules", property="plogp", oracle="forest", **options)
study = bi.Study.create("forest", predicted, strategy="auto", seed=0)
study.run(BUDGET, batch=10)
found = study.solutions(4)
show(
    [one.trial.design for one in found],
    [
        f"forest {-one.loss:.2f}, exact {-one.judged:.2f}, plausibility {one.plausibility:.2f}"
        for one in found
    ],
)
found

# %% [markdown]
# ## A target of two properties
#
# A logP of 2.5 and a QED of 0.8 is an inverse problem. The figure shows the result beside the
# most similar known molecule.

# %%
wanted = bi.ready_problem("molecules", target={"qed": 0.8, "logp": 2.5}, tolerance=0.02, **options)
study = bi.Study.create("target", wanted, strategy="auto", seed=0)
study.run(BUDGET, batch=10, stop_when_hit=True)
found = study.best.design
show(
    [found, made.realism.nearest([found])[0]],
    [f"found: {np.round(study.best.y, 3)}", "nearest known molecule"],
)
print(study.spent)
