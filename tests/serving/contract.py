"""What apps require of every engine: each implementation is tested by a subclass of `EngineContract`.

An engine under test offers the models `one` and `two`, runs one request at a time while one other may wait, and repeats
the question in its answer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Protocol

import pytest
from PIL import Image

from blip_space.engine.request import EngineConfig, Request, measure_budget
from blip_space.errors import BusyError, ImageError, ModelError, UserError
from blip_space.images import ImageFile, SafeImage
from blip_space.options import GenerationOptions
from blip_space.serving.protocol import EngineProtocol
from tests.engine.fake_model import FakePreparation, spec
from tests.example_images import blue_circles
from tests.serving.fakes import wait_until

SPECS = [spec("one"), spec("two")]
CONFIG = EngineConfig(max_batch_size=1, max_waiting=1)
QUESTION = "How many circles are there?"


class Subject(Protocol):
    """An engine that has been started, and a way to block its answers."""

    engine: EngineProtocol

    def hold(self) -> None:
        """From now on answers do not end."""

    def release(self) -> None:
        """Answers end again."""

    def is_running(self) -> bool:
        """Whether a request is running."""


def ask(
    prompt: str = QUESTION, model: str = "", language: str = "en", image: ImageFile | SafeImage | None = None
) -> Request:
    return Request(image or ImageFile(blue_circles()), prompt, language, model=model)


def error_message(call: Callable[[], object]) -> str:
    """The message of the `UserError` that the call raises."""
    with pytest.raises(UserError) as caught:
        call()
    return str(caught.value)


class EngineContract:
    """The tests; a subclass has a fixture `subject`."""

    def test_an_answer_grows_until_it_is_complete(self, subject: Subject) -> None:
        response = subject.engine.submit(ask())
        updates = list(response)
        assert all(later.startswith(earlier) for earlier, later in pairwise(updates))
        assert QUESTION in updates[-1]
        assert response.tokens >= len(QUESTION.split())
        assert response.done

    def test_the_tokens_of_the_prompt_are_known_at_the_end(self, subject: Subject) -> None:
        response = subject.engine.submit(ask())
        assert list(response)
        budget = subject.engine.budget(prompt=QUESTION, language="en", turns=(), model="", max_new_tokens=8)
        assert response.prompt_tokens == budget.image_tokens + budget.prompt_tokens

    def test_an_answer_ends_before_a_stop_string_of_its_request(self, subject: Subject) -> None:
        whole, _, _ = list(subject.engine.submit(ask()))[-1].partition(" circles")
        stopped = replace(ask(), options=GenerationOptions(stops=("nothing", "circles are")))
        updates = list(subject.engine.submit(stopped))
        assert updates[-1] == whole
        assert not any("circles" in update for update in updates)

    def test_a_stop_string_may_leave_no_text(self, subject: Subject) -> None:
        first = list(subject.engine.submit(ask()))[-1].split()[0]
        stopped = replace(ask(), options=GenerationOptions(stops=(first,)))
        assert list(subject.engine.submit(stopped))[-1] == ""

    def test_a_decoded_image_is_accepted_like_a_file(self, subject: Subject) -> None:
        image = SafeImage(Image.new("RGB", (4, 4)), digest="a")
        assert QUESTION in list(subject.engine.submit(ask(image=image)))[-1]

    def test_every_offered_model_answers(self, subject: Subject) -> None:
        for model in ("two", "ONE", ""):
            assert QUESTION in list(subject.engine.submit(ask(model=model)))[-1]

    def test_a_file_that_is_not_an_image_is_refused(self, subject: Subject) -> None:
        with pytest.raises(ImageError, match="not an image"):
            list(subject.engine.submit(ask(image=ImageFile(b"no image"))))

    def test_an_unknown_model_is_refused_by_every_method(self, subject: Subject) -> None:
        engine, message = subject.engine, "There is no model 'other' here. Choose among one, two."
        assert error_message(lambda: engine.resolve_model("other", "en")) == message
        assert error_message(lambda: engine.submit(ask(model="other"))) == message
        with pytest.raises(ModelError, match="no model 'other'"):
            engine.budget(prompt="", language="en", turns=(), model="other", max_new_tokens=8)

    def test_a_language_that_the_model_does_not_support_is_refused_at_once(self, subject: Subject) -> None:
        engine = subject.engine
        message = error_message(lambda: engine.resolve_model("two", "fr"))
        assert message.startswith("two does not support French; it supports English, German and Japanese.")
        assert error_message(lambda: engine.submit(ask(model="two", language="fr"))) == message

    def test_a_question_that_is_too_long_is_refused(self, subject: Subject) -> None:
        with pytest.raises(UserError, match="The question is too long: it has"):
            list(subject.engine.submit(ask("word " * 600 + "?")))

    def test_the_budget_matches_what_is_sent(self, subject: Subject) -> None:
        turns = ((QUESTION, "three"),)
        expected = measure_budget(
            FakePreparation(SPECS[0]), prompt="And squares?", language="de", turns=turns, max_new_tokens=8
        )
        budget = subject.engine.budget(prompt="And squares?", language="de", turns=turns, model="", max_new_tokens=8)
        assert budget == expected

    def test_the_status_names_the_ready_model(self, subject: Subject) -> None:
        assert list(subject.engine.submit(ask()))
        wait_until(lambda: subject.engine.status().running == 0)
        status = subject.engine.status()
        assert (status.status, status.model, status.error) == ("ready", "one", "")
        assert "one" in status.loaded
        assert (status.precision, status.device, status.waiting) == ("fp32", "cpu", 0)
        assert (list(subject.engine.specs), subject.engine.default.name) == (["one", "two"], "one")

    def test_a_full_queue_is_busy_and_a_closed_reader_frees_it(self, subject: Subject) -> None:
        subject.hold()
        running = subject.engine.submit(ask())
        wait_until(subject.is_running)
        waiting = subject.engine.submit(ask())
        wait_until(lambda: self._is_busy(subject))
        for response in (waiting, running):
            updates = response.updates(heartbeat_seconds=0.01)
            next(updates)
            updates.close()  # type: ignore[attr-defined]
            assert response.done
        subject.release()
        wait_until(lambda: self._answers(subject))

    def test_stopping_ends_running_requests_and_refuses_new_ones(self, subject: Subject) -> None:
        subject.hold()
        response = subject.engine.submit(ask())
        wait_until(subject.is_running)
        stopping = threading.Thread(target=subject.engine.stop)
        stopping.start()
        with pytest.raises(BusyError, match="stopped"):
            list(response)
        subject.release()
        stopping.join()
        with pytest.raises(BusyError, match="is stopping"):
            subject.engine.submit(ask())

    def _answers(self, subject: Subject) -> bool:
        """Whether another request is accepted, and then answered."""
        try:
            return QUESTION in list(subject.engine.submit(ask()))[-1]
        except BusyError:
            return False

    def _is_busy(self, subject: Subject) -> bool:
        """Whether another request is refused, at once or by an error of its response."""
        try:
            response = subject.engine.submit(ask())
            if response.wait(0.2):
                list(response)
        except BusyError as error:
            return str(error) == "The server is busy: 1 questions are waiting. Try again in a minute."
        response.cancel()
        return False
