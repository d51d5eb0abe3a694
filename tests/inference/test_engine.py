"""Laws of the engine, with a model of words: order, cancelling, deadlines, faults, and whose answer is whose."""

from __future__ import annotations

import gc
import threading
import weakref
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from blip_space.errors import BusyError, EmptyAnswerError, ModelError, UserError
from blip_space.images import SafeImage
from blip_space.inference.engine import Engine
from blip_space.inference.request import Request
from blip_space.options import GenerationOptions
from tests.inference.conftest import Build, Loading, until
from tests.inference.fake_model import spec

PICTURE = SafeImage(Image.new("RGB", (2, 2)), digest="a" * 64)
BEST = GenerationOptions(quality="best")


def ask(words: str = "What is it?", **changes: Any) -> Request:
    return Request(PICTURE, words, **changes)


def test_an_answer_grows_and_ends_whole(build: Build) -> None:
    *_, last = build().submit(ask()).updates()
    assert last == "Question: What is it? Short answer in English:"


def test_the_state_goes_from_loading_to_ready(build: Build) -> None:
    engine = build()
    until(lambda: engine.status().status == "ready")
    assert (engine.status().model, engine.status().precision, engine.status().device) == ("fake", "fp32", "cpu")


def test_an_engine_that_was_not_started_is_loading_and_already_takes_requests() -> None:
    engine = Engine([spec()], load=Loading())
    answer = engine.submit(ask())
    assert (engine.status().status, engine.status().waiting) == ("loading", 1)
    engine.start()
    assert list(answer.updates())[-1].endswith("English:")
    engine.stop()


def test_a_picture_is_encoded_once_whoever_sends_it(build: Build, loading: Loading) -> None:
    engine = build()
    for digest in ("a", "b", "a", "a"):
        list(engine.submit(replace(ask(), image=SafeImage(PICTURE.pixels, digest))).updates())
    assert loading.models[0].encoded == 2


def test_many_visitors_each_get_their_own_words(build: Build) -> None:
    engine = build(max_waiting=64)
    answers = {number: engine.submit(ask(f"What is {number}?")) for number in range(40)}
    for number, answer in answers.items():
        assert list(answer.updates())[-1] == f"Question: What is {number}? Short answer in English:"


def test_closing_the_updates_frees_the_worker(build: Build, loading: Loading) -> None:
    loading.gate = threading.Semaphore(1)
    engine = build()
    answer = engine.submit(ask("One two three four?"))
    updates = answer.updates(heartbeat_seconds=0.01)
    next(updates)
    until(lambda: loading.models[0].tokens == 1)
    updates.close()  # type: ignore[attr-defined]
    loading.gate.release()
    assert loading.models[0].ended.wait(5)
    assert loading.models[0].tokens <= 2
    until(lambda: engine.status().running == 0)


def test_a_request_cancelled_in_line_is_never_begun(build: Build, loading: Loading) -> None:
    loading.gate = threading.Semaphore(0)
    engine = build()
    first, second, third = (engine.submit(ask(f"What is {name}?")) for name in ("one", "two", "three"))
    second.cancel()
    loading.gate.release(100)
    assert list(first.updates())
    assert "three" in list(third.updates())[-1]
    assert not any("two" in word for word in loading.models[0].words)


def test_a_full_line_is_busy_and_says_so(build: Build, loading: Loading) -> None:
    loading.gate = threading.Semaphore(0)
    engine = build(max_waiting=2, max_batch_size=1)
    engine.submit(ask())
    until(lambda: engine.status().running == 1)
    engine.submit(ask())
    engine.submit(ask())
    with pytest.raises(BusyError, match="2 questions are waiting"):
        engine.submit(ask())


def test_a_deadline_ends_the_wait_while_the_worker_is_held(build: Build, loading: Loading) -> None:
    loading.gate = threading.Semaphore(0)
    with pytest.raises(BusyError, match="took too long"):
        list(build(timeout_seconds=0.05).submit(ask()).updates())


def test_answers_are_written_together(build: Build, loading: Loading) -> None:
    loading.gate = threading.Semaphore(0)
    engine = build(max_batch_size=3)
    answers = [engine.submit(ask(f"What is {number}?")) for number in range(5)]
    loading.gate.release(10_000)
    for number, answer in enumerate(answers):
        assert f"What is {number}?" in list(answer.updates())[-1]
    assert loading.models[0].most_rows == 3


def test_a_long_answer_does_not_keep_short_ones_waiting(build: Build, loading: Loading) -> None:
    loading.gate = threading.Semaphore(0)
    engine = build(max_batch_size=1, time_slice_tokens=3)
    long = engine.submit(ask("word " * 60 + "?"))
    until(lambda: engine.status().running == 1)
    short = engine.submit(ask("Who?"))
    loading.gate.release(30)  # fewer than the long one has words
    assert list(short.updates())[-1] == "Question: Who? Short answer in English:"
    assert not long.done
    loading.gate.release(1000)
    assert list(long.updates())[-1].startswith("Question: word word")


def test_who_waits_is_told_how_many_are_before_him(build: Build, loading: Loading) -> None:
    loading.gate = threading.Semaphore(0)
    engine = build(max_batch_size=1)
    answers = [engine.submit(ask()) for _ in range(3)]
    until(lambda: engine.status().running == 1)
    assert [answer.queue_position() for answer in answers] == [None, 0, 1]
    loading.gate.release(10_000)
    assert list(answers[-1].updates())
    assert answers[-1].queue_position() is None


def test_an_answer_that_ended_holds_no_picture_until_some_later_collection(build: Build) -> None:
    """A circle of answer and job kept every picture; a soak grew by 30 kB an answer."""
    engine, freed = build(), threading.Event()
    gc.disable()
    try:
        request = ask()
        weakref.finalize(request, freed.set)
        answer = engine.submit(request)
        del request
        assert list(answer.updates())
        until(freed.is_set)
    finally:
        gc.enable()


def test_pictures_that_arrive_together_are_encoded_as_one_batch(loading: Loading) -> None:
    engine = Engine([spec()], load=loading)
    answers = [
        engine.submit(replace(ask(), image=SafeImage(PICTURE.pixels, digest))) for digest in ("a", "b", "a", "c")
    ]
    engine.start()
    for answer in answers:
        assert list(answer.updates())
    assert (loading.models[0].encoded, loading.models[0].batches) == (3, 1)
    engine.stop()


def test_streams_go_on_while_a_search_does(build: Build, loading: Loading) -> None:
    loading.gate = threading.Semaphore(0)
    engine = build()
    search = engine.submit(ask("One two three four five six seven eight nine ten?", options=BEST))
    until(lambda: engine.status().running == 1)
    stream = engine.submit(ask("Who?"))
    loading.gate.release(14)  # enough for the stream's six words among the search's sixteen
    assert list(stream.updates())[-1].endswith("English:")
    assert not search.done
    loading.gate.release(100)
    assert list(search.updates())[-1].endswith("English:")


@pytest.mark.parametrize("options", [GenerationOptions(), BEST])
def test_a_blank_answer_ends_alone_however_it_is_written(
    loading: Loading, monkeypatch: pytest.MonkeyPatch, options: GenerationOptions
) -> None:
    """A search tells its whole group at once: what was wrong with one of them ended those after it as well."""
    engine = Engine([spec()], load=loading)
    blank, good = (engine.submit(ask(f"Is it {word}?", options=options)) for word in ("blank", "good"))
    engine._residence.open()
    model = loading.models[0]
    said = model.decode
    monkeypatch.setattr(model, "decode", lambda ids: "" if "blank?" in said(ids) else said(ids).replace("Is it", ""))
    engine.start()
    with pytest.raises(EmptyAnswerError, match=r"wrote nothing for this image\. Ask in other words"):
        list(blank.updates())
    assert "good" in list(good.updates())[-1]
    engine.stop()


def test_a_row_that_a_stop_string_ended_is_written_no_further(loading: Loading) -> None:
    """It would hold a place, and be written to its last token, which nobody sees."""
    engine = Engine([spec(style="blip2")], load=loading)
    answer = engine.submit(ask("one two Question: " + "more " * 30))
    long = engine.submit(ask("word " * 40))
    engine.start()
    assert list(answer.updates())[-1] == "one two"
    assert len(list(long.updates())[-1].split()) == 40
    assert loading.models[0].tokens == 3 + 40
    engine.stop()


def test_searches_of_one_kind_go_on_together(loading: Loading) -> None:
    engine = Engine([spec()], load=loading)
    answers = [engine.submit(ask(f"What is {number}?", options=BEST)) for number in range(3)]
    engine.start()
    for number, answer in enumerate(answers):
        assert f"What is {number}?" in list(answer.updates())[-1]
    words = loading.models[0].words
    assert words[:3] == ["Question:"] * 3
    engine.stop()


def test_memory_that_runs_out_makes_the_batch_smaller_and_nobody_notices(loading: Loading) -> None:
    engine = Engine([spec()], load=loading)
    answers = [engine.submit(ask(f"What is {number}?")) for number in range(8)]
    engine._residence.open()
    loading.models[0].exhausted = 4
    engine.start()
    for number, answer in enumerate(answers):
        assert f"What is {number}?" in list(answer.updates())[-1]
    assert engine._scheduler.most_rows == 4
    engine.stop()


def test_an_answer_that_no_memory_is_left_for_says_so(loading: Loading) -> None:
    engine = Engine([spec()], load=loading)
    answer = engine.submit(ask())
    engine._residence.open()
    loading.models[0].exhausted = -1
    engine.start()
    with pytest.raises(BusyError, match="ran out of memory"):
        list(answer.updates())
    engine.stop()


def test_a_prompt_that_cannot_be_read_ends_alone(loading: Loading) -> None:
    engine = Engine([spec()], load=loading)
    good, bad, other = (engine.submit(ask(f"Is it {word} now?")) for word in ("good", "unreadable", "other"))
    engine.start()
    assert "good" in list(good.updates())[-1]
    assert "other" in list(other.updates())[-1]
    with pytest.raises(UserError, match="fault of the server"):
        list(bad.updates())
    engine.stop()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_worker_that_died_is_replaced(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = build()
    assert list(engine.submit(ask()).updates())

    def die() -> None:
        raise SystemExit

    assert engine._worker is not None
    monkeypatch.setattr(engine._worker, "iterate", die)
    lost = engine.submit(ask())
    until(lambda: engine._thread is not None and not engine._thread.is_alive())
    assert list(engine.submit(ask()).updates())[-1].endswith("English:")
    assert list(lost.updates())[-1].endswith("English:")
    assert engine.status().metrics.restarts == 1


def test_the_counters_tell_what_was_not_done_twice(build: Build) -> None:
    engine = build()
    for _ in range(3):
        assert list(engine.submit(ask()).updates())
    reading = engine.status().metrics
    assert reading.prefix_hits == 2
    assert reading.first_token_seconds is not None
    assert reading.tokens_per_second > 0


def test_a_heartbeat_repeats_the_unchanged_text(build: Build, loading: Loading) -> None:
    loading.gate = threading.Semaphore(0)
    updates = build().submit(ask()).updates(heartbeat_seconds=0.01)
    assert [next(updates), next(updates)] == ["", ""]


def test_a_bug_ends_its_own_request_and_no_other(build: Build) -> None:
    engine = build()
    bad, good = engine.submit(ask("Will this explode?")), engine.submit(ask())
    with pytest.raises(UserError, match="fault of the server"):
        list(bad.updates())
    assert list(good.updates())[-1].endswith("English:")


def test_a_mistake_reaches_its_caller_in_its_own_words(build: Build) -> None:
    engine = build()
    with pytest.raises(UserError, match=r"60\d tokens long"):
        list(engine.submit(ask("word " * 600 + "?")).updates())
    with pytest.raises(UserError, match="does not speak French"):
        engine.submit(ask(language="fr"))
    with pytest.raises(UserError, match="no model 'other' here"):
        engine.submit(ask(model="other"))


def test_a_search_answers_at_once_and_whole(build: Build) -> None:
    assert list(build().submit(ask(options=BEST)).updates()) == ["Question: What is it? Short answer in English:"]


def test_another_model_takes_the_place_of_the_first(build: Build, loading: Loading) -> None:
    engine = build("one", "two")
    assert list(engine.submit(ask(model="two")).updates())
    assert engine.status().model == "two"
    assert [(model.spec.name, model.closed) for model in loading.models] == [("one", True), ("two", False)]


def test_who_waits_for_another_model_is_answered_by_it_when_the_last_row_ends(build: Build, loading: Loading) -> None:
    loading.gate = threading.Semaphore(0)
    engine = build("one", "two", timeout_seconds=20)
    first = engine.submit(ask("What is one?"))
    until(lambda: engine.status().running == 1)
    second = engine.submit(ask("What is two?", model="two"))
    loading.gate.release(1_000)
    assert [list(answer.updates())[-1].split()[3] for answer in (first, second)] == ["one?", "two?"]
    assert [model.words[3] for model in loading.models] == ["one?", "two?"]


def test_a_failed_exchange_brings_the_old_model_back(build: Build, loading: Loading) -> None:
    loading.failing = {"two"}
    engine = build("one", "two")
    with pytest.raises(ModelError, match="two has no weights"):
        list(engine.submit(ask(model="two")).updates())
    assert list(engine.submit(ask()).updates())
    assert (engine.status().status, engine.status().model) == ("ready", "one")


def test_a_model_that_does_not_load_is_told_to_everyone_and_the_engine_stays(build: Build, loading: Loading) -> None:
    loading.failing = {"fake"}
    engine = build()
    until(lambda: engine.status().status == "failed")
    assert "Download it again" in engine.status().error
    with pytest.raises(ModelError, match="has no weights"):
        engine.submit(ask())


def test_a_model_with_a_fault_is_never_loaded_and_says_its_fault(loading: Loading) -> None:
    engine = Engine([spec(fault="It has no weights. Copy them.", languages=())], load=loading)
    engine.start()
    until(lambda: engine.status().status == "failed")
    assert engine.status().error == "It has no weights. Copy them."
    with pytest.raises(ModelError, match="Copy them"):
        engine.submit(ask())
    assert loading.models == []
    engine.stop()


def test_the_budget_is_of_the_resident_model(build: Build) -> None:
    engine = build("one", "two")
    until(lambda: engine.status().status == "ready")
    asked: dict[str, Any] = {"prompt": "What?", "language": "en", "turns": (), "max_new_tokens": 8}
    assert engine.budget(model="", **asked).prompt == "Question: What? Short answer in English:"
    with pytest.raises(ModelError, match="two is not loaded"):
        engine.budget(model="two", **asked)


def test_a_search_that_the_stop_cut_short_is_no_answer(build: Build, loading: Loading) -> None:
    loading.gate = threading.Semaphore(0)
    engine = build()
    answer = engine.submit(ask(options=BEST))
    until(lambda: engine.status().running == 1)
    stopping = threading.Thread(target=engine.stop)
    stopping.start()
    until(lambda: engine._stopping)
    loading.gate.release(100)
    with pytest.raises(BusyError, match="stopped"):
        list(answer.updates())
    stopping.join()


def test_stopping_tells_those_who_wait(build: Build, loading: Loading) -> None:
    loading.gate = threading.Semaphore(0)
    engine = build(max_batch_size=1)
    running, waiting = engine.submit(ask()), engine.submit(ask())
    until(lambda: engine.status().running == 1)
    threading.Thread(target=engine.stop).start()
    loading.gate.release(100)
    for answer in (running, waiting):
        with pytest.raises(BusyError, match="stopped"):
            list(answer.updates())
