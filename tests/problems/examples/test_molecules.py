import json
import re

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch.nn import functional as F

pytest.importorskip("rdkit")
pytest.importorskip("selfies")
pytest.importorskip("safetensors")

import bo_invert as bi
from bo_invert.errors import InfeasibleError, InvalidInputError
from bo_invert.generators.base import train_generator
from bo_invert.generators.selfies import SelfiesConfig
from bo_invert.generators.selfies.atom_ordering import ordered
from bo_invert.generators.selfies.vocabulary import (
    END,
    Vocabulary,
    canonical,
    from_selfies,
    symbols,
    to_selfies,
)
from bo_invert.generators.storage import load_generator, save_generator
from bo_invert.problems.examples import molecules
from bo_invert.problems.examples.molecules_plausibility import MoleculeRealism
from bo_invert.problems.examples.molecules_properties import (
    accessibility,
    composition,
    cycle_penalty,
    fingerprints,
    logp,
    nearest,
    penalised_logp,
    picture,
    qed,
)
from bo_invert.types import State

# The tests train few epochs: the training reports few distinct draws at its first use.
pytestmark = pytest.mark.filterwarnings("ignore:molecules")

ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"
CAFFEINE = "Cn1cnc2c1c(=O)n(C)c(=O)n2C"
IBUPROFEN = "CC(C)Cc1ccc(cc1)C(C)C(=O)O"
PARACETAMOL = "CC(=O)Nc1ccc(O)cc1"
L_ALANINE, D_ALANINE = "C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O"

ACIDS = [
    "CC(=O)", "CCC(=O)", "O=C(c1ccccc1)", "O=C(c1ccncc1)", "O=C(C1CC1)", "O=C(c1ccc(F)cc1)",
    "O=C(Cc1ccccc1)", "O=C(c1ccco1)", "O=C(c1cccs1)", "COc1ccc(C(=O)", "CC(C)C(=O)",
    "O=C(C1CCCCC1)",
]  # fmt: skip
AMINES = [
    "NC", "NCC", "Nc1ccccc1", "NCc1ccccc1", "N1CCCCC1", "N1CCOCC1", "NC1CC1", "Nc1ccc(Cl)cc1",
    "NCC(C)C", "Nc1cccnc1", "N(C)C", "NCCO",
]  # fmt: skip
# Amides of 12 acids and 12 amines.
AMIDES = [
    f"{acid}{amine})cc1" if acid.startswith("COc1") else f"{acid}{amine}"
    for acid in ACIDS
    for amine in AMINES
]
SMALL = {"hidden": 64, "channels": 16, "merges": 40, "epochs": 60, "patience": 60, "batch_size": 16,
         "learning_rate": 1e-2, "dropout": 0.0, "beta": 0.05}  # fmt: skip


@pytest.fixture(scope="module")
def trained():
    return train_generator(AMIDES, SelfiesConfig(dim=6, **SMALL))


@pytest.fixture(scope="module")
def cached(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BO_INVERT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield {"data": AMIDES, "latent_dim": 6, "training": SMALL}


@pytest.mark.parametrize(
    "smiles", [ASPIRIN, CAFFEINE, IBUPROFEN, D_ALANINE, "[NH3+]CC(=O)[O-]", "C1CC2CCC1C2"]
)
def test_selfies_there_and_back(smiles):
    assert from_selfies(to_selfies(smiles)) == canonical(smiles)


@pytest.mark.parametrize(
    ("smiles", "farthest"),
    [
        (IBUPROFEN, 6),
        ("Cc1ccc(CNc2ncnc(N3CCC(C)CC3)c2N)cc1", 7),
        ("c1ccc(C(c2ccccc2)c2ccccc2)cc1", 6),
        ("O=C1CCC2(CCN(Cc3ccc4ccccc4c3)CC2)O1", 10),
        ("C1CCCCC1.CCO", 6),
        ("C", 0),
        ("C12C3C4C1C5C2C3C45", 8),
    ],
)
def test_rings_close_soon(smiles, farthest):
    from rdkit import Chem

    text = ordered(Chem.MolFromSmiles(smiles))
    assert canonical(text) == canonical(smiles)
    atoms, opened, spans = 0, {}, [0]
    for piece in re.findall(r"\[[^\]]*\]|Br|Cl|[A-Z]|%\d\d|\d", text):
        if piece[-1].isdigit():
            spans.append(atoms - opened.pop(piece) + 1) if piece in opened else opened.update(
                {piece: atoms}
            )
        else:
            atoms += 1
    assert max(spans) <= farthest


def test_what_cannot_be_ordered_stays_as_it_is():
    from rdkit import Chem

    for smiles in (L_ALANINE, "F/C=C/F"):
        assert ordered(Chem.MolFromSmiles(smiles)) is None
        assert from_selfies(to_selfies(smiles)) == canonical(smiles)


def test_mirror_images_are_one_molecule_without_stereochemistry():
    assert canonical(L_ALANINE) != canonical(D_ALANINE)
    assert canonical(L_ALANINE, stereo=False) == canonical(D_ALANINE, stereo=False)


def test_what_is_no_molecule_is_empty():
    assert canonical("c1ccccc") == canonical("nonsense") == ""
    assert from_selfies("") == ""


def test_a_vocabulary_says_what_it_learnt_in_fewer_tokens():
    texts = [to_selfies(one) for one in AMIDES]
    plain, merged = Vocabulary.learn(texts, 0), Vocabulary.learn(texts, 40)
    assert merged.tokens[: len(plain.tokens)] == plain.tokens
    for vocabulary in plain, merged:
        assert vocabulary.decode(vocabulary.encode(texts)) == texts
    assert (merged.encode(texts) > 0).sum() < 0.5 * (plain.encode(texts) > 0).sum()
    assert merged.silent.tolist() == [from_selfies(token) == "" for token in merged.tokens]
    assert plain.encode(texts)[0].tolist().count(0) == plain.length - len(symbols(texts[0]))


def test_runs_of_one_symbol_become_tokens_too():
    texts = ["[C][C][C][C][C]", "[C][C][C]"]
    vocabulary = Vocabulary.learn(texts, 2)
    assert "[C][C]" in vocabulary.tokens
    assert vocabulary.decode(vocabulary.encode(texts)) == texts
    assert (vocabulary.encode(["[C][C][C][C][C]"]) > 0).sum() <= 3


def test_a_vocabulary_knows_all_of_robust_selfies_and_refuses_the_rest():
    import selfies

    vocabulary = Vocabulary.learn(["[C][C]"], 0)
    assert selfies.get_semantic_robust_alphabet() <= set(vocabulary.tokens)
    with pytest.raises(InvalidInputError, match=r"symbols of the training molecules, got \[Xe\]"):
        vocabulary.encode(["[C][Xe]"])
    with pytest.raises(InvalidInputError, match="at most 3 tokens, got 4"):
        vocabulary.encode(["[C]" * 4])
    with pytest.raises(InvalidInputError, match="tokens must be distinct"):
        Vocabulary((END, "[C]", "[C]"), 5)


@pytest.mark.slow
def test_every_code_is_a_molecule(trained):
    network, report = trained
    rng = np.random.default_rng(0)
    made = network(3.0 * rng.standard_normal((300, 6)))
    assert np.mean([canonical(one) == one != "" for one in made]) >= 0.99
    assert report.figures["validity"] >= 0.99


def test_it_learnt_the_amides(trained):
    network, report = trained
    figures = report.figures
    assert figures["active"] >= 3
    assert figures["tokens"] > 0.8
    back = network(network.encode(AMIDES))
    same = np.mean(
        [one == canonical(other, stereo=False) for one, other in zip(back, AMIDES, strict=True)]
    )
    assert figures["reconstruction"] > 0.2
    assert same > 0.85
    assert str(report).startswith("60 epochs")


def test_one_code_is_one_molecule_however_many_are_decoded(trained):
    network = trained[0]
    codes = np.random.default_rng(1).standard_normal((200, 6))
    together = network(codes)
    assert [network(code[None])[0] for code in codes] == together
    assert network(codes[:0]) == []
    assert network.encode([]).shape == (0, 6)


def test_what_is_written_is_what_training_taught_to_write(trained):
    network = trained[0]
    codes = torch.randn(100, 6, generator=torch.Generator().manual_seed(0))
    rows = network.greedy(codes)
    with torch.no_grad():
        likeliest = network.logits(codes, F.pad(rows, (1, 0))[:, :-1]).argmax(dim=2)
    first = torch.arange(rows.shape[1]) == 0  # may not be the end, whatever is likeliest
    counted = (F.pad(rows, (1, 0), value=1)[:, :-1] > 0) & ~first
    assert (likeliest == rows)[counted].float().mean() > 0.999


def test_the_code_is_used_and_like_molecules_have_like_codes(trained):
    codes = trained[0].encode(AMIDES)
    prints = fingerprints(AMIDES)
    like = np.array(
        [nearest(prints[i : i + 1], np.delete(prints, i, axis=0))[1][0] for i in range(len(prints))]
    )
    like += like >= np.arange(len(like))
    near = np.linalg.norm(codes - codes[like], axis=1).mean()
    assert near < 0.8 * np.linalg.norm(codes - np.roll(codes, 5, axis=0), axis=1).mean()


def test_the_same_seed_trains_the_same_network_whatever_the_global_one():
    config = SelfiesConfig(dim=4, **{**SMALL, "epochs": 2})
    torch.rand(3)
    first = train_generator(AMIDES[:40], config)[0]
    torch.rand(5)
    second = train_generator(AMIDES[:40], config)[0]
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_it_is_stored_without_pickles(trained, tmp_path):
    network, report = trained
    path = save_generator(network, report, tmp_path / "amides")
    described = json.loads(path.with_suffix(".json").read_text())
    assert described["kind"] == "selfies"
    assert described["config"]["tokens"] == list(network.config.tokens)
    loaded, again = load_generator(path)
    codes = np.random.default_rng(2).standard_normal((50, 6))
    assert loaded(codes) == network(codes)
    assert_allclose(loaded.encode(AMIDES[:5]), network.encode(AMIDES[:5]))
    assert again == report


@pytest.mark.parametrize(
    ("designs", "message"),
    [
        ([*AMIDES[:30], "C1CC"], "got 1 invalid ones of 31, the first 'C1CC'"),
        (AMIDES[:5] * 6, "at least 20 distinct molecules, got 5"),
        ("CCO", "a list of SMILES"),
        ([1, 2], "a list of SMILES"),
    ],
)
def test_unfit_data_are_refused(designs, message):
    with pytest.raises(InvalidInputError, match=message):
        train_generator(designs, SelfiesConfig(dim=4))


def test_unfit_molecules_are_refused_by_the_encoder(trained):
    with pytest.raises(InvalidInputError, match="molecules with a SELFIES"):
        trained[0].encode([ASPIRIN, "nonsense"])
    with pytest.raises(InvalidInputError, match="symbols of the training molecules"):
        trained[0].encode(["[Fe]"])


@pytest.mark.parametrize(
    "options", [{"dim": 0}, {"dropout": 1.0}, {"merges": -1}, {"tokens": ("[C]",)}]
)
def test_nonsense_in_a_config_is_refused(options):
    with pytest.raises(InvalidInputError):
        SelfiesConfig(**options)


def test_published_values():
    """Compare QED and logP with RDKit's documentation and ChEMBL, SA with its authors' script."""
    assert qed(ASPIRIN) == pytest.approx(0.55, abs=0.005)
    assert qed(CAFFEINE) == pytest.approx(0.538, abs=0.005)
    assert logp(ASPIRIN) == pytest.approx(1.31, abs=0.005)
    assert logp(CAFFEINE) == pytest.approx(-1.03, abs=0.005)
    assert accessibility(ASPIRIN) == pytest.approx(1.58, abs=0.01)
    assert 4 < accessibility("CC1(C)C2CCC1(C)C(=O)C2C3CC4CCC3O4") < 8


def test_penalised_logp_is_its_formula():
    """The molecule that Zhou et al. 2019 give as ZINC-250k's best has 4.52."""
    best_of_zinc = "CCCCc1ccc(cc1)N=C(SCc1ccccc1)c1ccccc1"  # a molecule of that kind
    by_hand = (logp(best_of_zinc) - 2.4571) / 1.4343 + (
        3.0526 - accessibility(best_of_zinc)
    ) / 0.83352
    assert penalised_logp(best_of_zinc) == pytest.approx(by_hand + 0.0485697 / 0.28602)
    assert cycle_penalty("C1CCCCC1") == cycle_penalty("CCC") == 0
    assert cycle_penalty("C1CCCCCCCC1") == -3
    assert penalised_logp("C1CCCCCCCC1") < penalised_logp("C1CCCCC1") - 8


@pytest.mark.parametrize("bad", ["", "C1CC", "nonsense", None, 3])
def test_what_is_no_molecule_is_infeasible(bad):
    for function in qed, logp, accessibility, cycle_penalty, penalised_logp:
        with pytest.raises(InfeasibleError):
            function(bad)


def test_fingerprints_and_the_nearest():
    prints = fingerprints([ASPIRIN, CAFFEINE, "nonsense", "OC(=O)c1ccccc1OC(C)=O"])
    assert prints.shape == (4, 2048)
    assert np.isnan(prints[2]).all()
    assert np.array_equal(prints[0], prints[3])
    likeness, which = nearest(prints, fingerprints([CAFFEINE, ASPIRIN]))
    assert which.tolist()[:2] == [1, 0]
    assert_allclose(likeness[[0, 1, 2, 3]], [1, 1, 0, 1])
    from rdkit import Chem, DataStructs
    from rdkit.Chem import rdFingerprintGenerator

    maker = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    one, other = (
        maker.GetFingerprint(Chem.MolFromSmiles(text)) for text in (IBUPROFEN, PARACETAMOL)
    )
    ours = nearest(fingerprints([IBUPROFEN]), fingerprints([PARACETAMOL]))[0][0]
    assert ours == pytest.approx(DataStructs.TanimotoSimilarity(one, other))


def test_composition_counts():
    seen = composition(["c1ccccc1", "CCCCC", "C1CCCCCCCCCC1", "nonsense"])
    benzene, pentane, ring, nothing = seen
    assert [row[:-8].sum() for row in (benzene, pentane, ring)] == [6, 5, 11]
    assert benzene[-8:].tolist() == [0, 0, 0, 1, 0, 0, 0, 0]
    assert pentane[-8:].tolist() == [0, 0, 0, 0, 0, 0, 0, 2]
    assert ring[-8:].tolist() == [0, 0, 0, 0, 0, 0, 1, 0]
    assert np.isnan(nothing).all()


def test_pictures_are_all_of_one_size():
    drawn = [picture(one) for one in (ASPIRIN, "C", "nonsense", None)]
    assert {one.shape for one in drawn} == {(220, 300, 3)}
    assert all(0.0 <= one.min() <= one.max() <= 1.0 for one in drawn)
    assert drawn[0].std() > 0.05
    assert drawn[2].min() == 1.0


def test_realism_is_calibrated_and_knows_a_long_chain():
    known, fresh = AMIDES[::2], AMIDES[1::2]
    realism = MoleculeRealism(known, fresh[::2])
    assert abs(realism(fresh[1::2]).mean() - 0.5) < 0.15
    chain, cage, nothing = "C" * 40, "C12C3C4C1C5C2C3C45", "nonsense"
    assert (realism([chain, cage, nothing]) < 0.05).all()
    assert penalised_logp(chain) > max(map(penalised_logp, AMIDES)) + 3
    assert realism.nearest([known[3], "nonsense"])[0] == known[3]
    with pytest.raises(InvalidInputError, match="must be non-empty"):
        MoleculeRealism(known, [])


@pytest.mark.slow
def test_the_problem_is_solved_through_the_latent(cached):
    problem = bi.ready_problem("molecules", property="logp", **cached)
    assert problem.judge is None
    assert problem.statement.features is not None
    options = {"components": 30, "walkers": 2, "steps": 10}
    study = bi.Study.create("logp", problem, strategy={"name": "pcn", "options": options}, seed=0)
    study.run(20, batch=10)
    best = study.best
    assert canonical(best.design) == best.design
    assert best.y[0] == pytest.approx(logp(best.design))
    assert 0.0 <= problem.plausibility([best.design])[0] <= 1.0
    points = problem.space.sample(np.random.default_rng(0), 40)
    names = problem.space.identify(points)
    designs = problem.space.decode(points)
    assert [names.index(n) for n in names] == [designs.index(d) for d in designs]


def test_a_forest_is_judged_by_the_exact_property(cached):
    problem = bi.ready_problem("molecules", oracle="forest", **cached)
    designs = [AMIDES[5], AMIDES[50]]
    opinions, calls = problem.second_opinions(designs)
    assert calls == 2
    assert [one.loss for one in opinions] == pytest.approx([-qed(one) for one in designs])
    answers = problem.oracle.answers([*designs, "nonsense"], problem.outputs)
    assert [answer.error is None for answer in answers] == [True, True, False]
    assert abs(answers[0].y[0] - qed(designs[0])) < 0.2
    outcome = problem.outcome(answers[2].error, answers[2].calls and bi.types.Cost())
    assert outcome.state is State.INFEASIBLE


def test_several_targets_at_once(cached):
    problem = bi.ready_problem(
        "molecules", target={"qed": 0.8, "logp": 2.0}, tolerance=0.05, **cached
    )
    assert problem.outputs == ("qed", "logp")
    y = problem.oracle.answers([ASPIRIN], problem.outputs)[0].y
    assert_allclose(y, [qed(ASPIRIN), logp(ASPIRIN)])


def test_parts_do_not_overlap(cached):
    made = molecules.materials(AMIDES, 6, training=SMALL)
    taught, held = set(made.part("generator")), set(made.part("held_out"))
    assert not taught & held
    assert len(taught) + len(held) == len(made.smiles)
    assert set(made.part("forest")) < taught
    assert molecules.materials(AMIDES, 6, training=SMALL) is made


@pytest.mark.filterwarnings("ignore:molecules")
def test_a_file_is_read_line_by_line(cached, tmp_path, monkeypatch):
    file = tmp_path / "amides.smi"
    file.write_text("smiles\n" + "\n".join(f"{one},x" for one in AMIDES) + "\n\n")
    monkeypatch.setenv("BO_INVERT_MOLECULES", str(file))
    made = molecules.materials(None, 6, training=SMALL)
    assert made.unread == 1
    assert made.smiles == molecules.materials(AMIDES, 6, training=SMALL).smiles


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"pass data=PATH, or set \$BO_INVERT_MOLECULES"),
        ({"data": "/nowhere/zinc.smi"}, "cannot be read"),
        ({"data": ["CCO"] * 200}, "200 lines contain 1"),
        ({"data": AMIDES, "property": "charm"}, "property must be one of 'qed',"),
        ({"data": AMIDES, "goal": "explore"}, "goal must be"),
        ({"data": AMIDES, "oracle": "crystal ball"}, "oracle must be"),
    ],
)
def test_invalid_options_raise(options, message, monkeypatch):
    monkeypatch.delenv("BO_INVERT_MOLECULES", raising=False)
    with pytest.raises(InvalidInputError, match=message):
        bi.ready_problem("molecules", **options)


def test_any_latent_can_have_features():
    space = bi.Latent(
        lambda z: [f"{row.sum():.1f}" for row in z],
        3,
        features=lambda texts: [[float(t)] for t in texts],
    )
    assert_allclose(space.features(np.ones((2, 3))), [[3.0], [3.0]])
    bad = bi.Latent(lambda z: ["a"] * len(z), 3, features=lambda texts: [1.0])
    with pytest.raises(InvalidInputError, match="must return 2 rows"):
        bad.features(np.ones((2, 3)))


def test_texts_are_made_once():
    asked = []

    def decoder(codes):
        asked.extend(codes.tolist())
        return [f"{row.sum():.2f}" for row in codes]

    space = bi.Latent(decoder, 3)
    points = np.random.default_rng(0).standard_normal((50, 3))
    asked.clear()
    first = space.decode(points)
    assert space.decode(points[::-1]) == first[::-1]
    assert space.decode(np.concatenate([points[:5], points[:5], points[:2] + 1])) == [
        *first[:5],
        *first[:5],
    ] + [f"{row.sum():.2f}" for row in points[:2] + 1]
    assert len(asked) == 52
