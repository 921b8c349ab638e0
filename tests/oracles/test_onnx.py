"""Models in ONNX format as oracles, on tiny models made here."""

from __future__ import annotations

import hashlib
import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bo_invert as bi

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

Shape = list[Any] | None
OPSET = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("ai.onnx.ml", 3)]
FLOAT, DOUBLE, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.INT64


def model(
    nodes: list[Any],
    inputs: dict[str, tuple[int, Shape]],
    outputs: dict[str, tuple[int, Shape]],
    *given: Any,
) -> bytes:
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes,
        "tiny",
        [info(n, *v) for n, v in inputs.items()],
        [info(n, *v) for n, v in outputs.items()],
        list(given),
    )
    made = onnx.helper.make_model(graph, opset_imports=OPSET, ir_version=8)
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString())


def linear(batch: int | str = "n", kind: int = FLOAT) -> bytes:
    """y = x @ [[1, 10], [2, 20], [3, 30]]."""
    weights = onnx.helper.make_tensor("w", kind, [3, 2], [1.0, 10.0, 2.0, 20.0, 3.0, 30.0])
    nodes = [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])]
    return model(nodes, {"x": (kind, [batch, 3])}, {"y": (kind, [batch, 2])}, weights)


def total(shape: list[Any], kind: int = FLOAT) -> bytes:
    """The sum of each design."""
    axes = onnx.helper.make_tensor("axes", INT64, [len(shape) - 1], list(range(1, len(shape))))
    nodes = [onnx.helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)]
    return model(nodes, {"x": (kind, shape)}, {"y": (kind, shape[:1])}, axes)


X = np.arange(15.0).reshape(5, 3)
W = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])


@pytest.mark.parametrize("batch", ["n", 1, 2, 4, 8])
def test_batches_of_any_and_of_fixed_size(batch: int | str) -> None:
    oracle = bi.Onnx(linear(batch), outputs=["a", "b"])
    answers = oracle.answers(X, ("a", "b"))
    np.testing.assert_allclose([answer.y for answer in answers], X @ W, rtol=1e-6)
    assert {answer.calls for answer in answers} == {1}
    assert oracle.batched == (batch != 1)


def test_double_precision_stays_double() -> None:
    answers = bi.Onnx(linear(kind=DOUBLE), outputs=["a", "b"]).answers(X / 3.0, ("a", "b"))
    np.testing.assert_allclose([answer.y for answer in answers], X / 3.0 @ W, rtol=1e-15)


@pytest.mark.parametrize(
    ("shape", "design"),
    [
        (["n", 1, 4, 4], (4, 4)),
        (["n", 4, 4, 1], (4, 4)),
        (["n", 4, 4], (1, 4, 4)),
        (["n", "c", 4, "w"], (3, 4, 5)),
        (["n", 1, 6], (6,)),
        (["n"], ()),
        (["n", 1], ()),
    ],
)
def test_axes_of_length_one_come_and_go(shape: list[Any], design: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    designs = rng.random((3, *design))
    answers = bi.Onnx(total(shape)).answers(designs, ("y",))
    np.testing.assert_allclose(
        [a.y[0] for a in answers if a.y is not None], designs.reshape(3, -1).sum(1), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("shape", "design"), [([4, 4], (4, 4)), (["n", 3], (4,)), (["n", 3, 8, 8], (8, 8, 3))]
)
def test_another_shape_is_reported_and_costs_one_call(
    shape: list[Any], design: tuple[int, ...]
) -> None:
    oracle = bi.Onnx(total(shape))
    good = np.ones([n if isinstance(n, int) else 1 for n in shape[1:]])
    answers = oracle.answers([good, np.ones(design), good], ("y",))
    assert [answer.calls for answer in answers] == [1, 1, 1]
    assert answers[1].error is not None
    assert f"got {design}" in answers[1].error.reason
    assert answers[0].y == answers[2].y == [good.size]
    problem = bi.Problem(bi.Box([0.0] * 9, [1.0] * 9), oracle, bi.Minimize())
    study = bi.Study.create("s", problem, strategy="random")
    with pytest.warns(UserWarning, match="designs must have shape"):
        study.run(50)
    assert study.spent.values == 3, "no further call can mend that"


def test_a_model_of_one_design_without_a_batch_axis() -> None:
    nodes = [onnx.helper.make_node("ReduceSum", ["x"], ["y"], keepdims=1)]
    oracle = bi.Onnx(model(nodes, {"x": (FLOAT, [3])}, {"y": (FLOAT, [1])}))
    assert not oracle.batched
    assert [answer.y for answer in oracle.answers(X, ("y",))] == [[row.sum()] for row in X]


def test_dict_designs_as_rows_and_as_inputs() -> None:
    oracle = bi.Onnx(linear(), outputs=["a", "b"])
    (answer,) = oracle.answers([{"t": 1.0, "p": 2, "q": np.float64(3.0)}], ("a", "b"))
    np.testing.assert_allclose(answer.y, [14.0, 140.0])
    nodes = [
        onnx.helper.make_node("Mul", ["u", "v"], ["w"]),
        onnx.helper.make_node("Cast", ["k"], ["kf"], to=FLOAT),
        onnx.helper.make_node("Add", ["w", "kf"], ["y"]),
    ]
    inputs = {"u": (FLOAT, ["n", 1]), "v": (FLOAT, ["n", 1]), "k": (INT64, ["n", 1])}
    several = bi.Onnx(model(nodes, inputs, {"y": (FLOAT, ["n", 1])}))
    space = bi.Box({"u": (0.0, 1.0), "v": (0.0, 1.0), "k": bi.Int(1, 3)})
    study = bi.Study.create("s", bi.Problem(space, several, bi.Minimize()), strategy="random")
    study.run(4)
    for trial in study.trials:
        assert trial.y == pytest.approx(
            [trial.design["u"] * trial.design["v"] + trial.design["k"]], rel=1e-6
        )
    missing = several.answers([{"u": 1.0, "v": 2.0}, np.ones(3)], ("y",))
    assert "inputs ['k']" in str(missing[0].error)
    assert "must be dicts" in str(missing[1].error)


def test_text_goes_in_and_words_where_numbers_belong_are_refused() -> None:
    nodes = [
        onnx.helper.make_node(
            "LabelEncoder",
            ["x"],
            ["y"],
            domain="ai.onnx.ml",
            keys_strings=["a", "bc"],
            values_floats=[1.0, 2.0],
        )
    ]
    oracle = bi.Onnx(
        model(nodes, {"x": (onnx.TensorProto.STRING, ["n", 1])}, {"y": (FLOAT, ["n", 1])})
    )
    assert [answer.y for answer in oracle.answers(["a", "bc"], ("y",))] == [[1.0], [2.0]]
    (answer,) = bi.Onnx(linear()).answers([["a", "b", "c"]], ("a", "b"))
    assert "must be tensor(float)" in str(answer.error)


def test_several_outputs_are_chosen_by_name() -> None:
    weights = onnx.helper.make_tensor("w", FLOAT, [3, 2], W.ravel().tolist())
    axes = onnx.helper.make_tensor("axes", INT64, [1], [1])
    nodes = [onnx.helper.make_node("MatMul", ["x", "w"], ["pair"]),
             onnx.helper.make_node("ReduceSum", ["x", "axes"], ["total"], keepdims=1)]  # fmt: skip
    made = model(
        nodes,
        {"x": (FLOAT, ["n", 3])},
        {"pair": (FLOAT, ["n", 2]), "total": (FLOAT, ["n", 1])},
        weights,
        axes,
    )
    assert bi.Onnx(made).outputs is None
    names = ("total", "pair[1]")
    answers = bi.Onnx(made, outputs=names).answers(X, names)
    np.testing.assert_allclose(
        [answer.y for answer in answers], np.column_stack([X.sum(1), (X @ W)[:, 1]]), rtol=1e-6
    )
    only = bi.Onnx(made, outputs=["total"])
    assert only.answers(X[:1], ("total",))[0].y == [3.0]
    problem = bi.Problem(bi.Box([0.0] * 3, [1.0] * 3), bi.Onnx(made), bi.Maximize("total"))
    assert bi.Study.create("s", problem, strategy="random").run(3).spent.failed == 0


def test_probabilities_of_classes() -> None:
    nodes = [
        onnx.helper.make_node(
            "ZipMap", ["x"], ["p"], domain="ai.onnx.ml", classlabels_strings=["cat", "dog"]
        )
    ]
    kind = onnx.helper.make_map_type_proto(
        onnx.TensorProto.STRING, onnx.helper.make_tensor_type_proto(FLOAT, [])
    )
    out = onnx.helper.make_value_info("p", onnx.helper.make_sequence_type_proto(kind))
    graph = onnx.helper.make_graph(
        nodes, "t", [onnx.helper.make_tensor_value_info("x", FLOAT, ["n", 2])], [out]
    )
    made = onnx.helper.make_model(graph, opset_imports=OPSET, ir_version=8).SerializeToString()
    answers = bi.Onnx(made).answers([[0.25, 0.75], [0.5, 0.5]], ("dog",))
    assert [answer.y for answer in answers] == [[0.75], [0.5]]


def test_files_threads_processes_and_changes(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(total(["n", 2]))
    oracle = bi.Onnx(path)
    assert oracle.to_json() == {
        "type": "onnx", "file": "m.onnx", "sha256": hashlib.sha256(path.read_bytes()).hexdigest()
    }  # fmt: skip
    assert json.dumps(bi.Onnx(linear()).to_json())
    with ThreadPoolExecutor(4) as pool:
        values = list(pool.map(lambda i: oracle.answers([[i, 1.0]], ("y",))[0].y[0], range(16)))
    assert values == [i + 1.0 for i in range(16)]
    for given in (oracle, bi.Onnx(path.read_bytes())):
        problem = bi.Problem(bi.Box([0.0, 0.0], [1.0, 1.0]), given, bi.Minimize())
        study = bi.Study.create("s", problem, strategy="random").run(
            4, executor="processes", batch=2
        )
        assert study.spent.failed == 0
    travelling = pickle.dumps(oracle)
    path.write_bytes(linear())
    (answer,) = pickle.loads(travelling).answers([[1.0, 1.0]], ("y",))
    assert "must not change" in str(answer.error)


def test_one_thread() -> None:
    options = bi.Onnx(linear())._session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)


@pytest.mark.parametrize(
    ("given", "options", "words"),
    [
        (b"not a model", {}, "cannot be loaded"),
        ("/no/such/model.onnx", {}, "cannot be read"),
        (linear(), {"input": "z"}, "one of 'x', got 'z'"),
        (linear(), {"providers": ["NoSuchExecutionProvider"]}, "got 'NoSuch"),
    ],
)
def test_what_cannot_be_meant_is_refused_early(
    given: Any, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(bi.InvalidInputError, match=words):
        bi.Onnx(given, **options)


def test_nan_is_a_failure() -> None:
    answers = bi.Onnx(total(["n", 2])).answers([[1.0, np.nan], [1.0, 1.0]], ("y",))
    assert isinstance(answers[0].error, bi.FailedError)
    assert answers[1].y == [2.0]
