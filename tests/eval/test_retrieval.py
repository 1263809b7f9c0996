"""Retrieval by judgements and among labelled signals: trec_eval's figures, and forms of folders."""

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import pytrec_eval
from sklearn.metrics import average_precision_score, ndcg_score

from lakebed.eval import ranking
from lakebed.eval.chance import average_precision, ndcg_of_few
from lakebed.eval.datasets import Dataset, Part
from lakebed.eval.entries import source_of, task_of
from lakebed.eval.judgements import Judged, grade_matrix
from lakebed.eval.tasks.protocol import TaskResult
from lakebed.eval.tasks.retrieval import RetrievalTask
from lakebed.eval.tasks.signal_retrieval import SignalRetrievalTask
from lakebed.platform.config.entries.retrieval import Retrieval
from lakebed.platform.errors import ConfigError, DatasetNotFoundError
from lakebed.platform.items import Item

Vectors = dict[str, np.ndarray]


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def part(labels: list[str]) -> Part:
    return Part([Item.of(text=f"item {number}") for number in range(len(labels))], np.array(labels))


def judged_set(judged: list[Judged], documents: list[str]) -> Dataset:
    return Dataset("j", "1", "here", {"queries": part([one.label for one in judged]), "corpus": part(documents)})


def random_collection(queries: int, documents: int) -> tuple[list[Judged], list[str], Vectors]:
    """Grades 0 to 3, some for documents that are not there, and vectors that follow them loosely."""
    generator = np.random.default_rng(7)
    names = [f"d{number}" for number in range(documents)]
    corpus = unit(generator.standard_normal((documents, 16)))
    judged, asked = [], []
    for query in range(queries):
        chosen = generator.choice(documents, 12, replace=False)
        grades = {names[place]: int(generator.integers(0, 4)) for place in chosen} | {"lost": 2}
        judged.append(Judged(f"q{query}", grades))
        asked.append(sum(grades[names[place]] * corpus[place] for place in chosen))
    noise = 3 * generator.standard_normal((queries, 16))
    return judged, names, {"queries": unit(np.array(asked) + noise), "corpus": corpus}


def test_retrieval_is_what_trec_eval_says_of_all_similarities(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "DOCUMENTS", 37)  # many blocks, the last one smaller
    monkeypatch.setattr(ranking, "QUERIES", 9)
    judged, names, vectors = random_collection(20, 300)
    result = RetrievalTask().run(judged_set(judged, names), vectors)
    similarity = vectors["queries"].astype(float) @ vectors["corpus"].astype(float).T
    run = {
        one.query: dict(zip(names, map(float, row), strict=True))
        for one, row in zip(judged, similarity, strict=True)
    }
    relevance = {one.query: dict(one.grades) for one in judged}
    measures = {"ndcg_cut_10", "recall_10", "recall_100", "map_cut_100", "recip_rank"}
    expected = pytrec_eval.RelevanceEvaluator(relevance, measures).evaluate(run)
    for metric, measure in (("ndcg10", "ndcg_cut_10"), ("recall10", "recall_10"), ("map100", "map_cut_100")):
        by_query = [expected[one.query][measure] for one in judged]
        assert result.metrics[metric] == pytest.approx(np.mean(by_query), abs=1e-9)
        assert next(one for one in result.examples if one.metric == metric).scores == pytest.approx(by_query)
    reciprocal = [expected[one.query]["recip_rank"] for one in judged]
    assert result.metrics["mrr10"] == pytest.approx(np.mean([r if r >= 0.1 else 0 for r in reciprocal]))


def test_an_encoder_that_maps_everything_to_one_point_scores_zero() -> None:
    judged, names, vectors = random_collection(5, 300)
    point = {name: np.tile(vectors["corpus"][:1], (len(values), 1)) for name, values in vectors.items()}
    assert set(RetrievalTask().run(judged_set(judged, names), point).metrics.values()) == {0.0}


def test_of_equal_documents_the_worse_graded_comes_first() -> None:
    judged = [Judged("q", {"a": 2, "c": 1})]
    grades = grade_matrix(judged, np.array(["a", "b", "c", "d"]))
    documents = unit(np.array([[1.0, 0], [1, 0], [1, 0], [1, 1e-3]]))
    ((_, places),) = ranking.rankings(documents[:1], documents, grades, 4)
    assert places.tolist() == [[1, 2, 0, 3]]


def test_a_document_with_the_querys_own_id_is_no_answer() -> None:
    judged = [Judged("a", {"b": 1})]
    vectors = {"queries": unit(np.array([[1.0, 0]])), "corpus": unit(np.array([[1.0, 0], [1, 1]]))}
    assert RetrievalTask().run(judged_set(judged, ["a", "b"]), vectors).metrics["mrr10"] == 1


def test_expected_scores_of_a_random_order_are_means_over_all_orders() -> None:
    ranks = np.array(list(combinations(range(1, 13), 3)))
    precision = (np.arange(1, 4) / ranks).mean(axis=1)
    gain = np.where(ranks <= 10, 1 / np.log2(ranks + 1), 0).sum(axis=1) / (1 / np.log2([2, 3, 4])).sum()
    assert average_precision(np.array([3]), 12)[0] == pytest.approx(precision.mean())
    assert ndcg_of_few([[1, 1, 1]], 12, 10)[0] == pytest.approx(gain.mean())


def signals(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    classes = generator.choice(3, rows)
    centres = np.random.default_rng(0).standard_normal((3, 8))
    return unit(centres[classes] + generator.standard_normal((rows, 8))), np.array(["a", "b", "c"])[classes]


def among_signals(test_label: str | None = None) -> tuple[TaskResult, Vectors, dict[str, np.ndarray]]:
    vectors, labels = {}, {}
    for seed, name in enumerate(("train", "test"), start=1):
        vectors[name], labels[name] = signals(60, seed)
    if test_label:
        labels["test"][0] = test_label
    data = Dataset("s", "1", "here", {name: part(labels[name].tolist()) for name in vectors})
    return SignalRetrievalTask().run(data, vectors), vectors, labels


def test_signals_find_those_of_their_class() -> None:
    """Average precision by scikit-learn, precision by hand."""
    result, vectors, labels = among_signals()
    similarity = vectors["test"] @ vectors["train"].T
    right = labels["test"][:, None] == labels["train"]
    precisions = [average_precision_score(row, scores) for row, scores in zip(right, similarity, strict=True)]
    assert result.metrics["map"] == pytest.approx(np.mean(precisions), abs=1e-6)
    top = np.take_along_axis(right, np.argsort(-similarity, axis=1), axis=1)[:, :10]
    assert result.metrics["precision10"] == pytest.approx(top.mean())
    assert result.metrics["ndcg10"] == pytest.approx(ndcg_score(right, similarity, k=10))
    assert result.chance["map_chance"] < result.metrics["map"]


def test_a_signal_of_a_class_that_was_never_seen_asks_nothing() -> None:
    result, _, _ = among_signals("unseen")
    assert result.details["queries_without_answer"] == 1
    assert len(result.examples[0].keys) == 59


def beir(folder: Path, *, corpus: list[object], queries: list[object], qrels: str) -> Path:
    (folder / "qrels").mkdir(parents=True)
    for name, lines in (("corpus", corpus), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    (folder / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{qrels}")
    return folder


CORPUS: list[object] = [
    {"_id": "d1", "title": "Rain", "text": "It rains."},
    {"_id": "d2", "title": "", "text": " "},
    {"_id": "d3", "series": [[1, 2, 3], [3, 2, 1]]},
]
QUERIES: list[object] = [
    {"_id": "q1", "text": "wet"},
    {"_id": "q2", "text": "nobody judged this"},
    {"_id": "q3", "series": [[0, 1]]},
]


def retrieval(path: Path) -> Retrieval:
    return Retrieval(task="retrieval", path=path)


def test_a_beir_folder_may_hold_texts_and_series(tmp_path: Path) -> None:
    folder = beir(tmp_path / "weather", corpus=CORPUS, queries=QUERIES, qrels="q1\td1\t2\nq1\td2\t1\nq3\td3\t1\n")
    for path in (folder, tmp_path):  # the folder itself, or a folder of such folders
        (data,) = source_of(retrieval(path)).load()
        assert data.name == "weather"
        assert data.parts["corpus"].labels.tolist() == ["d1", "d3"]
        assert data.parts["corpus"].items[0].text == "Rain It rains."
        assert data.parts["queries"].labels.tolist() == ["q1\nd1\t2\nd2\t1", "q3\nd3\t1"]
    assert data.notes == (
        "1 of 3 queries have no relevant document and are left out",
        "1 of 3 documents are empty and can never be found",
    )


def test_a_relevant_document_that_is_empty_counts_as_not_found(tmp_path: Path) -> None:
    folder = beir(tmp_path / "weather", corpus=CORPUS, queries=QUERIES, qrels="q1\td1\t1\nq1\td2\t1\n")
    entry = retrieval(folder)
    (data,) = source_of(entry).load()
    vectors = {"queries": np.ones((1, 2), np.float32), "corpus": np.eye(2, dtype=np.float32)}
    assert task_of(entry).run(data, vectors).metrics["recall100"] == 0.5


def test_a_limit_keeps_the_judged_documents(tmp_path: Path) -> None:
    corpus = [{"_id": f"d{number}", "text": f"text {number}"} for number in range(9)]
    folder = beir(tmp_path / "many", corpus=list(corpus), queries=QUERIES, qrels="q1\td7\t1\nq3\td8\t1\n")
    (data,) = source_of(retrieval(folder)).load(1)
    assert data.parts["corpus"].labels.tolist() == ["d7"]
    (data,) = source_of(retrieval(folder)).load(4)
    assert data.parts["corpus"].labels.tolist() == ["d0", "d1", "d7", "d8"]


@pytest.mark.parametrize(
    ("corpus", "queries", "qrels", "message"),
    [
        ([{"text": "no id"}], QUERIES, "q1\td1\t1\n", "corpus.jsonl, line 1: no field '_id'"),
        ([*CORPUS, CORPUS[0]], QUERIES, "q1\td1\t1\n", "line 4: the id 'd1' occurs twice"),
        (CORPUS, [{"_id": "q", "text": ""}], "q\td1\t1\n", "query 'q' is empty"),
        (CORPUS, QUERIES, "q1\td1\thigh\n", "test.tsv, line 2: no judgement"),
        (CORPUS, QUERIES, "q1\td1\t0\n", "none of 3 queries has a relevant document"),
    ],
)
def test_a_folder_that_is_not_of_beirs_form_names_the_line(
    tmp_path: Path, corpus: list[object], queries: list[object], qrels: str, message: str
) -> None:
    folder = beir(tmp_path / "bad", corpus=corpus, queries=queries, qrels=qrels)
    with pytest.raises(DatasetNotFoundError, match=message):
        list(source_of(retrieval(folder)).load())


def test_cranfields_judgements_name_queries_by_position(tmp_path: Path) -> None:
    (tmp_path / "cran.all.1400").write_text(
        ".I 1\n.T\nwings\n.A\nx\n.B\ny\n.W\nwings\nlift.\n.I 2\n.T\n.A\n.B\n.W\n.I 3\n.T\n.A\n.B\n.W\nheat\n"
    )
    (tmp_path / "cran.qry").write_text(".I 001\n.W\nhow do\nwings lift\n.I 004\n.W\nwhat is heat\n")
    (tmp_path / "cranqrel").write_text("1 1 2 \n1 2 -1\n2 3 4\n")
    (data,) = source_of(retrieval(tmp_path)).load()
    assert [item.text for item in data.parts["corpus"].items] == ["wings lift.", "heat"]
    assert data.parts["queries"].labels.tolist() == ["1\n1\t1\n2\t1", "2\n3\t1"]


def test_a_folder_without_a_retrieval_set_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match=r"no retrieval data set here.*corpus.jsonl"):
        source_of(retrieval(tmp_path)).names()
    with pytest.raises(ConfigError, match="--data DIR"):
        source_of(Retrieval(task="retrieval")).names()
