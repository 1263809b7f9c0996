"""Adapters: the real sentence-transformers and the real mteb work with our encoder, and give our vectors."""

import json

import numpy as np
import pytest
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator

from lakebed import Encoder
from lakebed.platform.encoder.adapters.sentence_transformers import SentenceTransformersModule
from lakebed.platform.encoder.fake import FakeEncoder
from lakebed.platform.encoder.library import TruncationWarning
from lakebed.platform.errors import ArtifactError, ConfigError, InvalidItemError

WAVE = np.sin(np.arange(120) / 5).reshape(2, 60)
ITEMS = [
    "a pump",
    WAVE,
    {"text": "a fan", "time_series": [[1.0, 2.0, 3.0]]},
    "a valve that leaks a little",
    "é 漢字",
]
FIRST = ["A man plays a guitar.", "The pump vibrates.", "It rains.", "A dog runs."]
SECOND = ["Someone plays music.", "The machine shakes.", "The sun shines.", "The stock market fell."]
GOLD = [4.0, 4.5, 1.0, 0.0]


@pytest.fixture(scope="module")
def library():
    """The packaged model, as a user loads it."""
    return Encoder.load("lakebed-embed", device="cpu")


@pytest.fixture(scope="module")
def transformer(library):
    """The same in sentence-transformers."""
    return SentenceTransformer(modules=[SentenceTransformersModule(library)], device="cpu")


def test_sentence_transformers_gives_our_vectors(library, transformer):
    vectors = transformer.encode(ITEMS * 20, batch_size=7)
    assert np.allclose(vectors, library.encode(ITEMS * 20), atol=1e-3)
    assert (vectors * library.encode(ITEMS * 20)).sum(1).min() >= 0.9999
    assert transformer.encode("a pump").shape == (768,)
    assert transformer.encode(WAVE) @ vectors[1] >= 0.9999


def test_truncate_dim_gives_our_dimensions(library, transformer):
    cut = transformer.encode(ITEMS, truncate_dim=100, normalize_embeddings=True)
    assert (cut * library.encode(ITEMS, dimensions=100)).sum(1).min() >= 0.9999
    with transformer.truncate_embeddings(64):
        assert transformer.get_embedding_dimension() == 64


def test_sentence_transformers_knows_what_the_model_is(transformer):
    assert (transformer.get_embedding_dimension(), transformer.max_seq_length) == (768, 256)
    assert transformer.similarity_fn_name == "cosine"


def test_similarity_and_evaluators_of_sentence_transformers_work(library, transformer):
    first, second = library.encode(FIRST), library.encode(SECOND)
    similar = transformer.similarity(transformer.encode(FIRST), transformer.encode(SECOND)).numpy()
    assert np.allclose(similar, first @ second.T, atol=1e-3)
    scores = EmbeddingSimilarityEvaluator(FIRST, SECOND, GOLD)(transformer)
    assert scores["spearman_cosine"] == pytest.approx(spearmanr((first * second).sum(1), GOLD).statistic)


def test_a_prompt_goes_before_texts(library, transformer):
    prompted = transformer.encode(["a pump", WAVE], prompt="query: ")
    assert (prompted * library.encode(["query: a pump", WAVE])).sum(1).min() >= 0.9999


def test_a_cut_text_is_warned_of_and_a_bad_item_is_shown(transformer):
    with pytest.warns(TruncationWarning, match="window of 256 tokens"):
        transformer.encode(["word " * 400])
    with pytest.raises(InvalidItemError, match=r"item \[\[1.0, nan\]\]: .* nan at channel 0, sample 1"):
        transformer.encode(["good", [[1.0, float("nan")]]])


def test_a_saved_model_is_whole_and_loads_elsewhere(transformer, tmp_path):
    transformer.save_pretrained(str(tmp_path / "saved"))
    again = SentenceTransformer(str(tmp_path / "saved"), device="cpu", trust_remote_code=True)
    assert np.array_equal(again.encode(ITEMS), transformer.encode(ITEMS))
    assert again[0].library.model.target.startswith(str(tmp_path / "saved"))


def test_a_saved_model_that_was_changed_does_not_load(transformer, tmp_path):
    transformer.save_pretrained(str(tmp_path))
    described = json.loads((tmp_path / "lakebed.json").read_text())
    (tmp_path / "lakebed.json").write_text(json.dumps({**described, "digest": "0" * 64}))
    with pytest.raises(ArtifactError, match="but 000000000000 was saved"):
        SentenceTransformersModule.load(str(tmp_path))


def test_an_encoder_made_in_memory_cannot_be_saved(tmp_path):
    with pytest.raises(ArtifactError, match="make the module of a reference"):
        SentenceTransformersModule(Encoder(FakeEncoder())).save(str(tmp_path))


def _task_metadata(**fields):
    from mteb.abstasks.task_metadata import TaskMetadata

    return TaskMetadata(
        description="A local task.",
        reference="https://localhost",
        dataset={"path": "none", "revision": "none"},
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        date=("2026-01-01", "2026-01-01"),
        domains=[],
        task_subtypes=[],
        license="cc-by-4.0",
        annotations_creators="derived",
        dialect=[],
        sample_creation="created",
        bibtex_citation="",
        **fields,
    )


def _similarity_task():
    from datasets import Dataset, DatasetDict
    from mteb.abstasks import AbsTaskSTS

    class Sentences(AbsTaskSTS):
        metadata = _task_metadata(
            name="LocalSTS", type="STS", category="t2t", modalities=["text"], main_score="cosine_spearman"
        )
        min_score, max_score = 0, 5

        def load_data(self, **kwargs):
            rows = {"sentence1": FIRST, "sentence2": SECOND, "score": GOLD}
            self.dataset = DatasetDict({"test": Dataset.from_dict(rows)})
            self.data_loaded = True

    return Sentences()


def _series_task():
    from datasets import Dataset, DatasetDict
    from mteb.abstasks import AbsTaskClassification

    class Waves(AbsTaskClassification):
        metadata = _task_metadata(
            name="LocalWaves",
            type="AudioClassification",
            category="a2c",
            modalities=["audio"],
            main_score="accuracy",
        )
        input_column_name = "audio"

        def load_data(self, **kwargs):
            self.dataset = DatasetDict({"train": _waves(0, 24), "test": _waves(1, 12)})
            self.data_loaded = True

    def _waves(seed, count):
        generator = np.random.default_rng(seed)
        noise = generator.standard_normal((count, 2, 80)) / 5
        steps = np.arange(80) / np.where(np.arange(count) % 2, 3, 9)[:, None]
        series = np.sin(steps + generator.uniform(0, 6, (count, 1)))[:, None] + noise
        return Dataset.from_dict({"audio": series.tolist(), "label": [row % 2 for row in range(count)]})

    return Waves()


def _score(model, task):
    import mteb

    result = mteb.evaluate(model, task, cache=None, show_progress_bar=False, co2_tracker=False)
    return result.task_results[0].get_score()


def test_mteb_scores_our_vectors(library):
    from mteb.models.models_protocols import EncoderProtocol

    from lakebed.platform.encoder.adapters.mteb import MtebEncoder

    model = MtebEncoder(library)
    assert isinstance(model, EncoderProtocol)
    cosines = (library.encode(FIRST) * library.encode(SECOND)).sum(1)
    assert _score(model, _similarity_task()) == pytest.approx(spearmanr(cosines, GOLD).statistic)


def test_mteb_reaches_the_signal_tower(library):
    from lakebed.platform.encoder.adapters.mteb import MtebEncoder

    assert _score(MtebEncoder(library, dimensions=128), _series_task()) >= 0.9


def test_mteb_is_told_which_model_it_measured(library):
    from lakebed.platform.encoder.adapters.mteb import MtebEncoder

    meta = MtebEncoder(library, dimensions=64).mteb_model_meta
    assert (meta.name, meta.revision, meta.embed_dim) == ("lakebed/lakebed-embed", library.info.digest[:12], 64)
    assert MtebEncoder("fake:16").mteb_model_meta.name == "lakebed/fake"


def test_a_blank_document_of_mteb_is_similar_to_nothing():
    from lakebed.platform.encoder.adapters.mteb import MtebEncoder

    model = MtebEncoder("fake:16")
    vectors = model.encode([{"text": ["a", " "]}, {"text": ["b"]}])
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 0, 1])
    assert not model.similarity(vectors, vectors)[1].any()


def test_columns_of_mteb_that_are_no_items_are_refused():
    from lakebed.platform.encoder.adapters.mteb import MtebEncoder

    with pytest.raises(ConfigError, match="mteb gives image; lakebed embeds text"):
        MtebEncoder("fake:16").encode([{"image": [0]}])
