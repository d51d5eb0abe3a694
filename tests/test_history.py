"""Laws of parsing a history: texts of whole turns, or a message that names the format."""

import pytest

from blip_space.errors import PromptError
from blip_space.history import parse_history


def test_whole_turns_are_parsed_from_messages() -> None:
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    assert parse_history(messages) == (("q", "a"),)
    assert parse_history([]) == ()


PARTS = {
    "gradio 6": [{"text": "q", "type": "text"}],
    "several": [{"type": "text", "text": "q"}, {"type": "text", "text": "r"}],
    "without a type": [{"text": "q"}],
    "a text in the list": ["q"],
    "openai": [{"type": "input_text", "text": "q"}, {"type": "output_text", "text": "r"}],
    "beside files": [{"type": "image", "url": "x"}, {"type": "text", "text": "q"}, {"type": "component", "value": 5}],
    "one part": {"type": "text", "text": "q"},
}


@pytest.mark.parametrize("kind", PARTS)
def test_text_parts_are_used_whatever_parts_are_beside_them(kind: str) -> None:
    """Case history-of-gradio-6: they were rejected as messages without text."""
    message = {"role": "user", "content": PARTS[kind], "metadata": {"title": "x"}, "options": [], "id": 3}
    has_two_texts = "r" in str(PARTS[kind])
    assert parse_history([message, {"role": "assistant", "content": [{"type": "text", "text": "a"}]}]) == (
        ("q r" if has_two_texts and kind != "beside files" else "q", "a"),
    )


USER, REPLY = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}


@pytest.mark.parametrize(
    ("history", "message"),
    [
        ("words", "must be a list"),
        ({"role": "user"}, "must be a list"),
        (None, "must be a list"),
        ([USER, USER], "does not alternate"),
        ([REPLY, USER], "does not alternate"),
        (
            [{"role": "system", "content": "x"}],
            "holds a message of the role 'system', which is not supported. Remove it",
        ),
        ([USER, {"role": "tool", "content": "x"}], "role 'tool'"),
        ([USER], "no answer"),
        (["q", "a"], "does not alternate"),
        ([USER, {"role": "assistant", "content": None}], "no text"),
        ([USER, {"role": "assistant", "content": []}], "no text"),
        (
            [{"role": "user", "content": [{"type": "file", "file": {"path": "a"}}]}, REPLY],
            "no text. Only the text of earlier",
        ),
        ([{"role": "user", "content": ("a.png",)}, REPLY], "no text. Only the text of earlier"),
        ([{"role": "user", "content": [{"type": "text", "text": None}]}, REPLY], "no text"),
        ([USER, REPLY] * 5_000, "10,000 messages"),
        ([USER, {"role": "assistant", "content": "é" * 600_000}], "larger than 1 MB"),
    ],
)
def test_a_history_of_another_format_is_rejected(history: object, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        parse_history(history)
