"""Sentences that describe no signal: varied, the same from the same seed."""

from lakebed.jobs.prose import sentences

VOCABULARY = ["[CLS]", "##ing", "the", "1990", "river", "carry", "stone", "of", "gentle", "é"]


def test_the_same_seed_gives_the_same_sentences():
    assert sentences(VOCABULARY, 50, seed=1) == sentences(VOCABULARY, 50, seed=1)
    assert sentences(VOCABULARY, 50, seed=1) != sentences(VOCABULARY, 50, seed=2)


def test_every_blank_is_filled_with_whole_words():
    drawn = sentences(VOCABULARY, 500, seed=0)
    assert all("{" not in sentence and "#" not in sentence and "[" not in sentence for sentence in drawn)
    assert any("river" in sentence.lower() for sentence in drawn)
    assert len(set(drawn)) > 400
