"""Clients that use the API as it is meant: they wait for answers, and try again where the server's sentence says so.

Each checks that the same question about the same image gets the same answer for as long as the server runs.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from typing import Any

import httpx

from benchmarks.load.caller import Caller, CallError
from benchmarks.load.counts import Counts

QUESTIONS = ("How many shapes are there?", "What colour are they?", "What shapes are they?", "", "Is there a circle?")
LANGUAGES = ("en", "de", "ja", "sw", "ar")
TRY_AGAIN = frozenset({"busy", "disk_full", "too_many_requests", "model_unavailable", "stopping"})
"""Codes whose sentence asks to try again."""

UPLOAD_AGAIN = frozenset({"not_uploaded", "no_image", "not_found", "incomplete_batch"})
"""What a call gets whose upload somebody has deleted from the server's disk."""

AFTER_A_FAILURE = "internal_error"
"""What a call gets that a failure of the server has cut off. Also a reason to try again, but only then."""

FAILURE_SECONDS = 5.0
"""How long before a call such a failure may have been; it is usually during the call."""

PATIENCE_SECONDS = 900.0
"""How long a client tries again until it counts an error. Batches wait for everybody else, and four run at once, so one
of many clients may wait for its turn for several times the few minutes that the server's sentence says."""

MAX_WAIT_SECONDS = 5
"""Before it tries again."""

MAX_PAUSE_SECONDS = 2.0


class Answers:
    """The first answer to each question, with which later ones are compared."""

    def __init__(self) -> None:
        self._first: dict[tuple[Any, ...], Any] = {}
        self._lock = threading.Lock()

    def is_same(self, key: tuple[Any, ...], answer: Any) -> bool:
        """Whether it is the first answer, or equals that."""
        with self._lock:
            return bool(self._first.setdefault(key, answer) == answer)


class PatientClient:
    """Asks one question after another, with pauses, until it is stopped."""

    kind = "patient"

    def __init__(self, url: str, number: int, images: list[bytes], counts: Counts, answers: Answers) -> None:
        self._caller = Caller(url, number + 2)
        self._rng = random.Random(number)
        self._images, self._counts, self._answers = images, counts, answers
        self._file: dict[str, Any] | None = None
        self._image = 0

    def run(self, done: threading.Event) -> None:
        """Until `done`."""
        while not done.wait(self._rng.uniform(0, MAX_PAUSE_SECONDS)):
            started = time.monotonic()
            endpoint = self._rng.choices(("chat", "caption", "batch", "budget"), (70, 15, 5, 10))[0]
            try:
                self._try_until_answered(getattr(self, f"_{endpoint}"), endpoint, self._rng.randrange(2**16))
            except CallError as error:
                self._counts.add(f"error: {error.code}", str(error))
            except httpx.HTTPError as error:
                self._counts.add("error: connection", f"{endpoint}: {error!r}")
            else:
                self._counts.add_seconds(time.monotonic() - started)
        self._caller.close()

    def _try_until_answered(self, ask: Any, endpoint: str, seed: int) -> None:
        ends = time.monotonic() + PATIENCE_SECONDS
        for number in itertools.count(1):
            begun = time.monotonic()
            try:
                key, answer = ask(random.Random(seed))
            except CallError as error:
                if begun > ends or not self._may_try_again(error.code, begun):
                    raise
                if error.code in UPLOAD_AGAIN:
                    self._file = None
                self._counts.add(f"tried again: {error.code}")
                time.sleep(min(number, MAX_WAIT_SECONDS))
                continue
            self._counts.add(f"answered: {endpoint}")
            if not self._answers.is_same(key, answer):
                self._counts.add("error: different answer", f"{key}: {answer}")
            return

    def _may_try_again(self, code: str, begun: float) -> bool:
        """Whether a call that was begun at that time may be made again after an error with this code."""
        has_failure = begun - self._counts.failed_at < FAILURE_SECONDS
        return code in TRY_AGAIN | UPLOAD_AGAIN or (code == AFTER_A_FAILURE and has_failure)

    def _uploaded(self, rng: random.Random) -> dict[str, Any]:
        """An image on the server; a new one now and then."""
        if self._file is None or rng.random() < 0.3:
            self._image = rng.randrange(len(self._images))
            self._file = self._caller.upload(self._images[self._image])
        return self._file

    def _chat(self, rng: random.Random) -> tuple[tuple[Any, ...], Any]:
        image, question, language = self._uploaded(rng), rng.choice(QUESTIONS), rng.choice(LANGUAGES)
        history = [{"role": "user", "content": "What is this?"}, {"role": "assistant", "content": "two"}]
        turns, seed = rng.randrange(3), rng.randrange(4)
        options = {"temperature": 0.8 if seed else 0.0, "seed": seed, "max_new_tokens": rng.choice((8, 32, 64))}
        answer = self._ask("chat", image=image, prompt=question, language=language, history=turns * history, **options)
        return ("chat", self._image, question, language, turns, *options.values()), answer

    def _caption(self, rng: random.Random) -> tuple[tuple[Any, ...], Any]:
        image, language = self._uploaded(rng), rng.choice(LANGUAGES)
        return ("caption", self._image, language), self._ask("caption", image=image, language=language)

    def _batch(self, rng: random.Random) -> tuple[tuple[Any, ...], Any]:
        numbers = [rng.randrange(len(self._images)) for _ in range(rng.randint(2, 5))]
        files = [self._caller.upload(self._images[number], f"{number}.png") for number in numbers]
        records = self._ask("batch", files=files, quality="stream")["records"]
        if len(records) != len(numbers) or any(record.get("error") for record in records):
            self._counts.add("incomplete: batch")  # which is an answer for the server
            raise CallError("incomplete_batch", str([record.get("error") for record in records]))
        return ("batch", *numbers), [record["caption"] for record in records]

    def _budget(self, rng: random.Random) -> tuple[tuple[Any, ...], Any]:
        question = rng.choice(QUESTIONS)
        return ("budget", question), self._ask("budget", prompt=question)["used_tokens"]

    def _ask(self, endpoint: str, **values: Any) -> Any:
        event = self._caller.call(endpoint, **values)
        self._counts.add(f"call: {endpoint}")
        try:
            return self._caller.result(endpoint, event)
        except CallError as error:
            self._counts.add(f"failed: {endpoint}: {error.code}")
            raise
