"""Laws of the core: whose answer is whose, who comes and goes, and what a fault or a lack of memory ends."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from blip_space.engine import core
from blip_space.engine.request import PreparedRequest
from blip_space.engine.sampling import Sampler
from blip_space.errors import BusyError, EmptyAnswerError, UserError
from blip_space.models.interface import Embedded
from blip_space.models.preparation import Prompt
from blip_space.options import GenerationOptions
from tests.engine.conftest import SteppedCore
from tests.engine.fake_model import SURE, FakeModel, spec
from tests.engine.models.driving import prompt_of

Run = Callable[..., SteppedCore]
MEMORY = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")


def test_an_answer_grows_and_ends_whole(run: Run) -> None:
    running = run()
    number = running.ask("two cats and a dog")
    running.finish()
    shown = ["tw", "two cat", "two cats an", "two cats and", "two cats and a do", "two cats and a dog"]
    assert running.texts[number] == shown
    assert (running.ended[number].tokens, running.ended[number].repeats) == (5, False)
    assert (running.core.running, running.core.waiting, running.core.has_work) == (0, 0, False)


def test_an_answer_ends_at_its_longest(run: Run) -> None:
    running = run()
    number = running.ask("one two three", max_new_tokens=2)
    running.finish()
    assert (running.text(number), running.ended[number].tokens) == ("one two", 2)


def test_who_runs_goes_on_in_the_step_that_admits_others(run: Run) -> None:
    running = run()
    running.ask("one two three")
    running.step()
    running.ask("four five")
    running.step()
    assert running.model.generated_words == ["one", "two", "four"]


def test_long_prompts_are_read_in_a_step_each(run: Run) -> None:
    running = run(max_prefill_tokens=8)
    for _ in range(2):
        running.ask("one two three four")  # the image takes four positions as well
    running.step()
    assert (running.core.running, running.core.waiting) == (1, 1)


def test_many_requests_each_get_their_own_words_whatever_runs_beside_them(run: Run) -> None:
    running = run(max_batch_size=5, time_slice_tokens=2)
    asked = {}
    for number in range(30):
        text = " ".join(f"w{number}.{word}" for word in range(number % 7 + 1))
        options = {"quality": "best", "num_beams": 3} if number % 4 == 0 else {"temperature": 0.5 * (number % 3)}
        asked[running.ask(text, digest=str(number % 3), background=number % 5 == 0, **options)] = text
        running.step()
    running.finish()
    assert {number: running.text(number) for number in asked} == asked
    assert running.model.encoded_images == 3


def test_a_background_search_gives_its_rows_up_and_begins_again(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    running = run(max_beam_groups=1)
    first = running.ask("one two three", background=True, quality="best")
    running.step()
    running.step()
    other = running.ask("four five", quality="best")
    running.finish()
    assert list(running.ended) == [other, first]
    assert [running.text(number) for number in (first, other)] == ["one two three", "four five"]
    assert not caplog.records  # of a fault, after which everybody begins again


class Starting(FakeModel):
    """Its decoder reads a word before each answer, which it then likes a little more than another."""

    liked, other = 5, 6

    def embed(self, prompt: Prompt, features: Sequence[torch.Tensor]) -> Embedded:
        return replace(super().embed(prompt, features), start=(self.liked,))

    def next(self, words: torch.Tensor, is_prompt: torch.Tensor) -> torch.Tensor:
        scores = super().next(words, is_prompt)
        if is_prompt[-1]:
            scores[self.liked], scores[self.other] = 2 * SURE, 2 * SURE - 0.2
        return scores


@pytest.mark.parametrize("quality", ["stream", "best"])
@pytest.mark.usefixtures("slots")
def test_a_penalty_counts_what_a_decoder_reads_before_an_answer(quality: str) -> None:
    running = SteppedCore(Starting())
    running.model.encode("liked other a b c d e")
    plain, penalized = (
        running.ask("c d", quality=quality, max_new_tokens=1, repetition_penalty=penalty) for penalty in (1.0, 2.0)
    )
    running.finish()
    words = running.model.words
    assert [running.text(number) for number in (plain, penalized)] == [words[Starting.liked], words[Starting.other]]


def test_prompts_of_very_different_lengths_are_read_in_one_step_and_each_gets_its_own_words(run: Run) -> None:
    running = run()
    asked = {running.ask(text): text for text in ("who is it", "word " * 40 + "end", "what", "other " * 30 + "end")}
    running.step()
    assert running.core.running == 4
    running.finish()
    assert {number: running.text(number) for number in asked} == asked


def test_images_that_arrive_together_are_encoded_as_one_batch(run: Run) -> None:
    running = run()
    for digest in ("a", "b", "a", "c"):
        running.ask("what", digest=digest)
    running.finish()
    assert (running.model.encoded_images, running.model.encoder_batches) == (3, 1)
    running.ask("what", digest="b")
    running.finish()
    assert (running.model.encoded_images, running.core.image_feature_hits) == (3, 1)


def test_a_cancelled_request_is_generated_no_further_and_has_no_output(run: Run) -> None:
    running = run(max_batch_size=1)
    first, second, third = running.ask("one " * 9), running.ask("two"), running.ask("three")
    running.step(2)
    running.core.cancel(first)
    running.core.cancel(second)
    running.finish()
    assert running.ended.keys() == {third}
    assert running.model.generated_words.count("one") == 2
    assert "two" not in running.model.generated_words


def test_a_request_cancelled_during_a_step_has_no_output(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    running = run()
    first, second = running.ask("one two three"), running.ask("four five six")
    running.step()
    shown = list(running.texts[first])
    monkeypatch.setattr(running.model, "note_decode", lambda _: running.core.cancel(first))
    running.finish()
    assert (running.texts[first], list(running.ended)) == (shown, [second])


@pytest.mark.parametrize("ends", ["whole", "blank", "failed", "cancelled", "aborted"])
def test_an_answer_that_ended_holds_no_request(run: Run, monkeypatch: pytest.MonkeyPatch, ends: str) -> None:
    """A circle kept every picture until a rare collection; a soak grew by 30 kB an answer."""
    running, freed = run(), list[bool]()
    monkeypatch.setattr(core.log, "error", lambda *_, **__: None)  # pytest keeps what is logged
    if ends == "blank":
        monkeypatch.setattr(running.model, "decode", lambda _: "")
    gc.disable()
    try:
        options, prompt = GenerationOptions(), prompt_of(running.model, "explode" if ends == "failed" else "word", "a")
        pixels = (running.model.pixels(None, options),)
        request = PreparedRequest(running.model.spec, prompt, pixels, options)
        weakref.finalize(request, freed.append, True)
        number = running.core.add(request)
        del request
        if ends in ("cancelled", "aborted"):
            running.step()
        if ends == "cancelled":
            running.core.cancel(number)
        if ends == "aborted":
            running.core.abort_all()
        running.finish()
        assert (number in running.ended) == (ends not in ("cancelled", "aborted"))
        assert freed == [True]
    finally:
        gc.enable()


def test_a_stop_string_ends_the_answer_and_frees_its_row() -> None:
    """It would be generated to its last token, which nobody sees."""
    running = SteppedCore(FakeModel(spec(prompt_style="blip2")))
    short, long = running.ask("one two Question: " + "more " * 30), running.ask("word " * 40)
    running.finish()
    assert running.text(short) == "one two"
    assert len(running.text(long).split()) == 40
    assert running.model.generated_words.count("more") == 0


def test_a_long_answer_does_not_keep_short_ones_waiting_and_goes_on_where_it_was(run: Run) -> None:
    running = run(max_batch_size=1, time_slice_tokens=3)
    long = running.ask(" ".join(map(str, range(20))))
    running.step()
    short = running.ask("who")
    running.step(6)
    assert running.text(short) == "who"
    assert long not in running.ended
    assert running.core._sequences[long].saved_row is None  # they are in the batch again, and no second time
    running.finish()
    assert running.text(long) == " ".join(map(str, range(20)))
    assert [running.model.generated_words.count(str(number)) for number in range(20)] == [1] * 20


def test_streams_go_on_while_a_beam_search_does(run: Run) -> None:
    running = run()
    search = running.ask("one two three four five six seven eight nine ten", quality="best")
    running.step()
    stream = running.ask("who is it")
    running.step(5)
    assert running.text(stream) == "who is it"
    assert search not in running.texts
    running.finish()
    assert running.texts[search] == ["one two three four five six seven eight nine ten"]


def test_a_blank_answer_ends_alone_however_it_is_generated(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    running = run()
    monkeypatch.setattr(running.model, "decode", lambda ids: "" if running.model.encode("blank")[0] in ids else "good")
    for quality in ("stream", "best"):
        blank, good = running.ask("blank", quality=quality), running.ask("good", quality=quality)
        running.finish()
        with pytest.raises(EmptyAnswerError, match=r"empty answer for this image\. Rephrase the prompt"):
            running.text(blank)
        assert running.text(good) == "good"


@pytest.mark.parametrize("options", [{}, {"quality": "best"}, {"temperature": 1.0}])
def test_scores_that_are_not_finite_end_their_own_request(run: Run, options: dict[str, Any]) -> None:
    running = run()
    bad, good = running.ask("will this explode now", **options), running.ask("will this be good now", **options)
    running.finish()
    with pytest.raises(UserError, match="internal error"):
        running.text(bad)
    assert running.text(good) == "will this be good now"
    assert running.core.restarts == 0


@pytest.mark.parametrize("quality", ["stream", "best"])
def test_a_prompt_that_cannot_be_read_ends_alone(run: Run, quality: str) -> None:
    running = run()
    good, bad, other = (running.ask(f"is it {word}", quality=quality) for word in ("good", "unreadable", "other"))
    running.finish()
    assert (running.text(good), running.text(other)) == ("is it good", "is it other")
    with pytest.raises(UserError, match="internal error"):
        running.text(bad)


def test_a_fault_of_a_whole_step_ends_only_the_one_that_causes_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """M12 of the engine: all that ran beside it failed with it."""
    running = run()
    decode = running.batch_class.decode

    def failing(self: Any, tokens: list[int]) -> Any:
        if running.model.encode("poison")[0] in tokens:
            raise RuntimeError("a bug in decoding")
        return decode(self, tokens)

    monkeypatch.setattr(running.batch_class, "decode", failing)
    good = [running.ask(f"is it good {number}") for number in range(3)]
    bad = running.ask("is it poison now")
    running.finish()
    assert [running.text(number) for number in good] == [f"is it good {number}" for number in range(3)]
    with pytest.raises(UserError, match="internal error"):
        running.text(bad)


def test_a_fault_is_not_counted_against_those_who_did_not_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that waits preempted while others fail twice would have no answer either."""
    running = run(max_batch_size=1, time_slice_tokens=2)
    decode = running.batch_class.decode

    def failing(self: Any, tokens: list[int]) -> Any:
        if running.model.encode("poison")[0] in tokens:
            raise RuntimeError("a bug in decoding")
        return decode(self, tokens)

    monkeypatch.setattr(running.batch_class, "decode", failing)
    good = running.ask(" ".join(map(str, range(30))))
    for _ in range(2):
        running.step(3)
        bad = running.ask("poison now")
        running.step(8)
        with pytest.raises(UserError, match="internal error"):
            running.text(bad)
    running.finish()
    assert running.text(good) == " ".join(map(str, range(30)))


def test_what_ended_in_the_step_that_fails_has_ended(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    running, failures = run(), [MEMORY]
    prefill = running.batch_class.prefill

    def failing(self: Any, *arguments: Any) -> Any:
        if failures:
            raise failures.pop()
        return prefill(self, *arguments)

    first = running.ask("one two", max_new_tokens=2)
    running.step()
    monkeypatch.setattr(running.batch_class, "prefill", failing)
    second = running.ask("three")
    running.step()
    assert running.text(first) == "one two"
    running.finish()
    assert running.text(second) == "three"
    assert (running.model.generated_words.count("one"), running.core.restarts) == (1, 1)


@pytest.mark.parametrize("background", [False, True])
def test_nobody_sees_an_answer_that_begins_again_become_shorter(run: Run, background: bool) -> None:
    running = run(max_batch_size=4)
    ids = [running.ask(f"{number} one two three four", background=background) for number in range(2)]
    running.step(4)
    running.model.memory_rows = 1
    running.finish()
    assert running.core.restarts == 1
    for number, asked in enumerate(ids):
        assert running.text(asked) == f"{number} one two three four"
        assert running.texts[asked] == sorted(running.texts[asked], key=len)


def test_memory_that_runs_out_makes_the_batch_smaller_and_nobody_notices(run: Run) -> None:
    running = run()
    running.model.memory_rows = 2
    ids = [running.ask(f"what is {number}") for number in range(8)]
    running.finish()
    assert [running.text(number) for number in ids] == [f"what is {number}" for number in range(8)]
    assert running.core.row_limit == 2
    for number in ids:  # nobody saw it become shorter
        assert running.texts[number] == sorted(running.texts[number], key=len)


def test_after_quiet_minutes_the_batch_grows_again(run: Run) -> None:
    """M5: after one shortage the server was smaller until its model was exchanged."""
    running = run(recovery_seconds=10.0, max_batch_size=8)
    running.model.memory_rows = 4
    for number in range(8):
        running.ask(f"what is {number}")
    running.finish()
    assert running.core.row_limit == 4
    running.model.memory_rows = 0
    running.ask("word " * 60)
    running.finish()
    assert running.core.row_limit > 6


@pytest.mark.parametrize("quality", ["stream", "best"])
def test_an_answer_that_no_memory_is_left_for_says_so(run: Run, quality: str) -> None:
    """M11: a search was told to have failed through a fault, and was not tried again."""
    running = run()
    running.model.memory_rows = -1
    number = running.ask("two words", quality=quality)
    running.finish()
    assert running.core.restarts == 2
    with pytest.raises(BusyError, match="ran out of memory"):
        running.text(number)


@pytest.mark.parametrize("place", ["copy", "merge", "key_values", "select"])
def test_memory_that_runs_out_at_the_edges_of_a_step_ends_nobodys_answer(
    run: Run, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """H5: outside of the guarded lines it ended every answer, and one hung until its deadline."""
    running, failures = run(max_batch_size=1, time_slice_tokens=2), [MEMORY]
    plain = getattr(running.batch_class, place)

    def failing(self: Any, *arguments: Any) -> Any:
        if failures and (place != "merge" or running.model.generated_words):
            raise failures.pop()
        return plain(self, *arguments)

    ids = [running.ask("a b c d e f g h"), running.ask("i j k l m n o p")]
    running.step()
    monkeypatch.setattr(running.batch_class, place, failing)
    running.finish()
    assert not failures
    assert [running.text(number) for number in ids] == ["a b c d e f g h", "i j k l m n o p"]
    assert running.core.restarts == (place != "key_values")


def test_a_fault_once_rows_are_in_the_batch_leaves_none_of_nobody(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """They were read again, each alone, beside the rows that they had already."""
    running, plain, failures = run(), Sampler.sample, [RuntimeError("a bug")]

    def failing(self: Any, *arguments: Any) -> Any:
        if failures:
            raise failures.pop()
        return plain(self, *arguments)

    monkeypatch.setattr(Sampler, "sample", failing)
    ids = [running.ask("a b c d"), running.ask("e f g")]
    running.finish()
    assert [running.text(number) for number in ids] == ["a b c d", "e f g"]
    running.ask("h i")
    running.step(2)
    assert len(running.core._runner._batch) == 1


def test_when_memory_runs_out_the_caches_are_freed_first(run: Run) -> None:
    running = run()
    running.ask("what", digest="a")
    running.finish()
    running.model.memory_rows = 1
    for number in range(2):
        running.ask(f"is it {number}", digest="b")
    running.finish()
    running.model.memory_rows = 0
    number = running.ask("what what now", digest="a", turns=True)
    running.finish()
    assert running.text(number) == "what what now"
    assert running.model.encoded_images == 4  # both images again after they were freed
    assert running.core.prefix_hits == 0


def test_a_later_turn_reads_only_what_is_new_and_the_same_again_as_well(run: Run) -> None:
    """`_longest` must leave the last token to be read, also where the same question is asked twice."""
    running = run()
    running.ask("first question")
    running.finish()
    for _ in range(3):
        number = running.ask("first question first question and another", turns=True)
        running.finish()
        assert running.text(number) == "first question first question and another"
    assert running.core.prefix_hits == 3


def test_conversations_of_different_lengths_go_on_in_one_step(run: Run) -> None:
    running, said = run(), {"a": "one", "b": "two three four five", "c": "six seven"}
    for digest, words in said.items():
        running.ask(words, digest=digest)
        running.finish()
    asked = {}
    for digest, words in said.items():
        text = f"{words} {words} and another {digest}"
        asked[running.ask(text, digest=digest, turns=True)] = text
    running.step()
    assert running.core.running == 3
    running.finish()
    assert {number: running.text(number) for number in asked} == asked
    assert running.core.prefix_hits == 3


@pytest.mark.parametrize("words", ["first question explode", "first question"])
def test_what_a_search_or_a_failed_answer_has_read_is_not_continued(run: Run, words: str) -> None:
    """A search's rows are of beams that lost as well, and an answer that failed would fail again."""
    running = run()
    running.ask(words, quality="stream" if "explode" in words else "best")
    running.finish()
    number = running.ask("first question and another", turns=True)
    running.finish()
    assert running.text(number) == "first question and another"
    assert running.core.prefix_hits == 0


def test_a_conversation_about_another_image_is_not_continued(run: Run) -> None:
    running = run()
    running.ask("first question", digest="a")
    running.finish()
    running.ask("first question and another", digest="b", turns=True)
    running.finish()
    assert running.core.prefix_hits == 0


def test_positions_in_the_queue_are_told(run: Run) -> None:
    running = run(max_batch_size=1)
    ids = [running.ask("one two"), running.ask("three"), running.ask("four"), running.ask("five", background=True)]
    running.step()
    late = running.ask("six")
    assert [running.core.queue_position(number) for number in (*ids, late)] == [None, 0, 1, None, 2]
    assert (running.core.running, running.core.waiting, running.core.background) == (1, 3, 1)
    running.core.cancel(ids[1])
    running.core.cancel(ids[3])
    assert [running.core.queue_position(number) for number in (ids[2], late)] == [0, 1]
    assert (running.core.running, running.core.waiting, running.core.background) == (1, 2, 0)


def test_an_aborted_core_hands_back_what_was_not_finished(run: Run) -> None:
    running = run(max_batch_size=2)
    done, runs, cancelled, waits = (running.ask(words) for words in ("one", "two three four", "five", "six"))
    running.step(2)
    assert done in running.ended
    background, late = running.ask("seven", background=True), running.ask("eight")
    running.core.cancel(cancelled)
    assert running.core.abort_all() == ([runs], [waits, late, background])
    assert not running.core.has_work
    last = running.ask("nine")
    running.finish()
    assert running.text(last) == "nine"
    assert "four" not in running.model.generated_words


def test_who_is_admitted_waits_for_no_decode_and_who_runs_for_one_prefill_at_most(run: Run) -> None:
    """The first token of a later turn came after a step of everybody else's."""
    running = run()
    first = running.ask("a b c d e f g h")
    running.step(2)
    steps = []
    for word in "tuvw":
        number, before = running.ask(word), len(running.texts[first])
        running.step()
        steps.append((number in running.texts, len(running.texts[first]) - before))
    assert steps == [(True, 0), (True, 1), (True, 0), (True, 1)]
    running.finish()
    assert running.text(first) == "a b c d e f g h"


def test_while_nobody_is_admitted_who_runs_comes_to_an_end(run: Run) -> None:
    running = run()
    first = running.ask("one two three")
    running.step()
    second = running.ask("four")
    running.step(6, admit=False)
    assert (running.text(first), second in running.ended, running.core.running) == ("one two three", False, 0)
    running.finish()
    assert running.text(second) == "four"
