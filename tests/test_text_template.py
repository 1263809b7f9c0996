import pytest

from lakebed.platform.text_template import TextTemplate


def test_a_template_is_filled_in_the_order_of_its_fields() -> None:
    template = TextTemplate.parse("{site}: {note}, {{{site}}}")
    assert template.columns == ("site", "note")
    assert template.filled(["north", "dry", "n"]) == "north: dry, {n}"


def test_a_text_without_fields_is_the_name_of_a_column() -> None:
    assert TextTemplate.parse("note").column == "note"
    assert TextTemplate.parse("odd {{name}}").column == "odd {name}"
    assert TextTemplate.parse("{note}").column is None


def test_names_are_taken_as_they_stand() -> None:
    assert TextTemplate.parse("{a.b} {c[0]} {two words} {0}").columns == ("a.b", "c[0]", "two words", "0")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{site", "is no template"),
        ("site}", "is no template"),
        ("{}", "a field without a name"),
        ("{site!r}", "!r is not known here"),
        ("{level:{width}}", "the format of 'level' holds a field"),
    ],
)
def test_what_is_no_template_is_said_in_one_line(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault) as error:
        TextTemplate.parse(text)
    assert "\n" not in str(error.value)
