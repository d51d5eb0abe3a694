"""The end of a request in the core: stop strings, cancellation, and what is freed."""

from __future__ import annotations

import gc
import weakref

import pytest

from blip_space.engine.request import PreparedRequest
from blip_space.options import GenerationOptions
from tests.engine.conftest import NewCore, SteppedCore
from tests.engine.fake_model import FakeModel, spec
from tests.engine.models.driving import prompt_of


def test_a_cancelled_request_stops_and_has_no_output(new_core: NewCore) -> None:
    core = new_core(max_batch_size=1)
    first, second, third = core.ask("one " * 9), core.ask("two"), core.ask("three")
    core.step(2)
    core.engine.cancel(first)
    core.engine.cancel(second)
    core.finish()
    assert core.finished.keys() == {third}
    assert core.model.generated_words.count("one") == 2
    assert "two" not in core.model.generated_words


def test_a_request_cancelled_during_a_step_has_no_output(new_core: NewCore, monkeypatch: pytest.MonkeyPatch) -> None:
    core = new_core()
    first, second = core.ask("one two three"), core.ask("four five six")
    core.step()
    shown = list(core.texts[first])
    monkeypatch.setattr(core.model, "note_decode", lambda _: core.engine.cancel(first))
    core.finish()
    assert (core.texts[first], list(core.finished)) == (shown, [second])


@pytest.mark.parametrize("ends", ["whole", "blank", "failed", "cancelled", "aborted"])
def test_a_finished_answer_does_not_keep_its_request_alive(
    new_core: NewCore, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    """A reference cycle kept every image until a rare collection; a soak test grew by 30 kB an answer."""
    core, freed = new_core(), list[bool]()
    monkeypatch.setattr("blip_space.engine.answers.log.error", lambda *_, **__: None)  # pytest keeps what is logged
    if ends == "blank":
        monkeypatch.setattr(core.model, "decode", lambda _: "")
    gc.disable()
    try:
        options, prompt = GenerationOptions(), prompt_of(core.model, "explode" if ends == "failed" else "word", "a")
        pixels = (core.model.pixels(None, options),)
        request = PreparedRequest(core.model.spec, prompt, pixels, options)
        weakref.finalize(request, freed.append, True)
        number = core.engine.add(request)
        del request
        if ends in ("cancelled", "aborted"):
            core.step()
        if ends == "cancelled":
            core.engine.cancel(number)
        if ends == "aborted":
            core.engine.abort_all()
        core.finish()
        assert (number in core.finished) == (ends not in ("cancelled", "aborted"))
        assert freed == [True]
    finally:
        gc.enable()


def test_a_stop_string_ends_the_answer_and_frees_its_row() -> None:
    """Otherwise it is generated to its last token, which is never shown."""
    core = SteppedCore(FakeModel(spec(prompt_style="blip2")))
    short, long = core.ask("one two Question: " + "more " * 30), core.ask("word " * 40)
    core.finish()
    assert core.text(short) == "one two"
    assert len(core.text(long).split()) == 40
    assert core.model.generated_words.count("more") == 0


def test_abort_all_returns_the_unfinished_requests(new_core: NewCore) -> None:
    core = new_core(max_batch_size=2)
    done, runs, cancelled, waits = (core.ask(words) for words in ("one", "two three four", "five", "six"))
    core.step(2)
    assert done in core.finished
    background, late = core.ask("seven", background=True), core.ask("eight")
    core.engine.cancel(cancelled)
    assert core.engine.abort_all() == ([runs], [waits, late, background])
    assert not core.engine.has_work
    last = core.ask("nine")
    core.finish()
    assert core.text(last) == "nine"
    assert "four" not in core.model.generated_words
