"""The engine of a remote model: what it sends, what its users see, and what it shares with every other engine."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from PIL import Image

from blip_space import catalogue
from blip_space.callers import Caller
from blip_space.engine.request import EngineConfig, Request
from blip_space.errors import BusyError, ModelError, PromptError, UserError
from blip_space.images import ImageFile
from blip_space.options import GenerationOptions
from blip_space.serving.joined import JoinedEngine
from blip_space.serving.protocol import EngineProtocol
from blip_space.serving.remote.engine import RemoteEngine
from tests.apps.fake_engine import PARROT, FakeEngine
from tests.example_images import blue_circles
from tests.serving.contract import CONFIG, QUESTION, EngineContract, ask
from tests.serving.fakes import wait_until
from tests.serving.remote.conftest import Open
from tests.serving.remote.openai_server import PROMPT_TOKENS, WINDOW, OpenAIServer

TURNS = (("What is this?", "a circle"),)


def answer(engine: EngineProtocol, request: Request) -> str:
    """The final text of an answer."""
    *_, text = engine.submit(request)
    return text


def texts(body: dict[str, object]) -> list[tuple[str, str]]:
    """The role and the text of each message of a request."""
    found = []
    for message in body["messages"]:  # type: ignore[attr-defined]
        content = message["content"]
        text = content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
        found.append((message["role"], text))
    return found


def sent_image(body: dict[str, object]) -> tuple[str, Image.Image]:
    """The media type and the pixels of the only image of a request, in its first message."""
    parts = [part for message in body["messages"] for part in message["content"] if isinstance(part, dict)]  # type: ignore[attr-defined]
    (url,) = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    kind, _, data = url.partition(";base64,")
    return kind.removeprefix("data:"), Image.open(io.BytesIO(base64.b64decode(data)))


def test_a_reader_sees_text_before_the_last_of_it_is_sent(open_engine: Open, server: OpenAIServer) -> None:
    updates = open_engine("held").submit(ask()).updates()
    assert "first".startswith(next(updates))
    server.may_end.set()
    assert list(updates)[-1] == "first last"


def test_the_server_counts_the_tokens(open_engine: Open) -> None:
    engine = open_engine()
    response = engine.submit(ask())
    assert list(response)[-1] == f"{QUESTION} Answer in English. of echo"
    assert response.tokens == len(f"{QUESTION} Answer in English. of echo".split()) + 1
    assert engine.status().metrics.tokens_per_second > 0


def test_the_conversation_is_sent_with_its_language(open_engine: Open, server: OpenAIServer) -> None:
    answer(open_engine(), replace(ask("And what colour?", language="de"), turns=TURNS))
    assert texts(server.requests[0]) == [
        ("user", "What is this? Answer in German."),
        ("assistant", "a circle"),
        ("user", "And what colour? Answer in German."),
    ]
    assert sent_image(server.requests[0])[1].size == (400, 200)


def test_an_empty_question_asks_for_a_caption(open_engine: Open, server: OpenAIServer) -> None:
    answer(open_engine(), ask("", language="iw"))
    assert texts(server.requests[0]) == [("user", "Describe this image in one sentence, in Hebrew.")]


def test_an_image_is_sent_within_a_bounded_size_and_without_metadata(open_engine: Open, server: OpenAIServer) -> None:
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x010E], exif[0x0112] = "a secret description", 6
    Image.radial_gradient("L").resize((3000, 1500)).convert("RGB").save(file, "JPEG", exif=exif)
    engine = open_engine()
    answer(engine, ask(image=ImageFile(file.getvalue())))
    answer(engine, ask(image=ImageFile(blue_circles(size=(60, 40)))))
    (kind, large), (small_kind, small) = map(sent_image, server.requests)
    assert (kind, large.size, dict(large.getexif())) == ("image/jpeg", (512, 1024), {})  # upright
    assert (small_kind, small.size) == ("image/png", (60, 40))


def test_options_are_sent_only_where_they_matter(open_engine: Open, server: OpenAIServer) -> None:
    engine, sampled = open_engine(), GenerationOptions(9, 0.7, 0.9, 1.2, seed=5)
    answer(engine, ask())
    answer(engine, replace(ask(), options=sampled))
    plain, varied = ({key: value for key, value in body.items() if key != "messages"} for body in server.requests)
    streamed = {"model": "echo", "stream": True, "stream_options": {"include_usage": True}}
    assert plain == {**streamed, "max_tokens": 64, "temperature": 0.0}
    expected = {"max_tokens": 9, "temperature": 0.7, "top_p": 0.9, "seed": 5, "repetition_penalty": 1.2}
    assert varied == {**streamed, **expected}


def test_the_key_goes_to_the_server_and_nowhere_else(open_engine: Open, server: OpenAIServer) -> None:
    engine = open_engine(key="secret-key-of-the-operator")
    answer(engine, ask())
    assert server.keys == ["Bearer secret-key-of-the-operator"]
    assert "secret" not in repr(engine.status())
    assert "secret" not in repr(engine.specs)


def test_the_budget_is_an_estimate_within_the_window_of_the_server(open_engine: Open) -> None:
    engine = open_engine()
    wait_until(lambda: engine.status().status == "ready")
    budget = engine.budget(prompt="Where?", language="en", turns=TURNS, model="", max_new_tokens=64)
    assert (budget.context_tokens, budget.kept_turns, budget.dropped_turns) == (WINDOW, 1, 0)
    assert budget.used_tokens == budget.image_tokens + budget.prompt_tokens + 64
    assert "reports a window of 512 tokens" in budget.note
    assert json.loads(budget.prompt)[-1] == {"role": "user", "content": "Where? Answer in English."}
    long = engine.budget(prompt="Where?", language="en", turns=(("word " * 150, "yes"),), model="", max_new_tokens=64)
    assert (long.kept_turns, long.dropped_turns) == (0, 1)


@pytest.mark.parametrize("status", [404, 500])
def test_a_server_without_a_list_of_models_is_ready(open_engine: Open, server: OpenAIServer, status: int) -> None:
    server.listing_status = status
    engine = open_engine()
    wait_until(lambda: engine.status().status == "ready")
    budget = engine.budget(prompt="Where?", language="en", turns=(), model="", max_new_tokens=64)
    assert "reports no window; 4,096 tokens are assumed" in budget.note


def test_a_model_that_the_server_does_not_list_is_named_in_the_status(open_engine: Open) -> None:
    engine = open_engine("held")
    wait_until(lambda: engine.status().status == "ready")
    assert engine.status().reason == "the server lists echo, second, and not this model"


def test_a_reader_that_leaves_ends_the_request_on_the_server(open_engine: Open, server: OpenAIServer) -> None:
    engine = open_engine("endless")
    updates = engine.submit(ask()).updates()
    next(updates)
    updates.close()  # type: ignore[attr-defined]
    assert server.left.wait(10)
    wait_until(lambda: engine.status().running == 0)


def test_so_many_requests_run_at_once_and_users_come_before_batches(open_engine: Open, server: OpenAIServer) -> None:
    engine = open_engine("held", config=EngineConfig(max_batch_size=2))
    running = [engine.submit(ask(f"running {number}")) for number in range(2)]
    wait_until(lambda: engine.status().running == 2)
    background = engine.submit(replace(ask("background"), background=True))
    users = [engine.submit(ask(f"user {number}")) for number in range(2)]
    assert [response.queue_position() for response in (*users, background)] == [0, 1, 2]
    wait_until(lambda: len(server.requests) == 2)
    server.may_end.set()
    for response in (*running, *users, background):
        assert list(response)[-1] == "first last"
    order = [texts(body)[0][1].split(" Answer")[0] for body in server.requests]
    assert sorted(order[2:4]) == ["user 0", "user 1"]
    assert order[4] == "background"


def test_callers_take_turns(open_engine: Open, server: OpenAIServer) -> None:
    engine, greedy, quiet = open_engine("held", config=EngineConfig(max_batch_size=2)), Caller("1", ""), Caller("2", "")
    first = [engine.submit(replace(ask("first"), caller=greedy)) for _ in range(2)]
    wait_until(lambda: len(server.requests) == 2)
    waiting = [engine.submit(replace(ask(f"greedy {number}"), caller=greedy)) for number in range(3)]
    last = engine.submit(replace(ask("quiet"), caller=quiet))
    assert [response.queue_position() for response in (last, *waiting)] == [0, 1, 2, 3]
    server.may_end.set()
    for response in (*first, *waiting, last):
        assert list(response)[-1] == "first last"
    assert "quiet Answer in English." in [texts(body)[0][1] for body in server.requests[2:4]]


def test_an_answer_that_takes_too_long_ends(open_engine: Open) -> None:
    engine = open_engine("endless", config=EngineConfig(timeout_seconds=0.3))
    with pytest.raises(BusyError, match="took too long") as caught:
        list(engine.submit(ask()))
    assert caught.value.code == "timed_out"
    wait_until(lambda: engine.status().running == 0)


@pytest.mark.parametrize(("name", "sentence"), [
    ("openai:127.0.0.1:8000/v1#llava", "is not the address of a server"),
    ("openai:ftp://host/v1#llava", "is not the address of a server"),
    ("openai:http://host:99999/v1#llava", "is not the address of a server"),
    ("openai:http://host/v1?x=1#llava", "is not the address of a server"),
    ("openai:http://host/v1", "has no usable name after #"),
    ("openai:http://host/v1#", "has no usable name after #"),
    ("openai:http://me:secret@host/v1#llava", "The address of host has a password"),
])  # fmt: skip
def test_a_wrong_name_is_refused_with_the_right_form(name: str, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence) as caught:
        catalogue.find_model(name, folders=True)
    assert "openai:http://127.0.0.1:8000/v1#llava" in str(caught.value)


def test_no_user_names_an_address() -> None:
    with pytest.raises(ModelError, match="There is no model"):
        catalogue.find_model("openai:http://host/v1#llava")


class Subject:
    """The engines of two models of one server as one engine, and a way to block the first one's answers."""

    def __init__(self, server: OpenAIServer) -> None:
        self._server = server
        specs = [
            replace(
                catalogue.find_model(server.name(name), folders=True), languages=("en", "de", "ja"), context_tokens=512
            )
            for name in ("one", "two")
        ]
        self.engine = JoinedEngine([RemoteEngine(spec, config=CONFIG) for spec in specs], ["one", "two"])
        self.engine.start()

    def hold(self) -> None:
        self._server.held.set()

    def release(self) -> None:
        self._server.held.clear()
        self._server.may_end.set()

    def is_running(self) -> bool:
        return self.engine.status().running == 1


class TestRemoteEngine(EngineContract):
    """What apps require of every engine, by the engines of two remote models."""

    @pytest.fixture
    def subject(self, server: OpenAIServer) -> Iterator[Subject]:
        subject = Subject(server)
        yield subject
        subject.release()
        subject.engine.stop()

    def test_the_budget_matches_what_is_sent(self, subject: Subject) -> None:  # type: ignore[override]
        """Of an estimate only the text can match."""
        engine = subject.engine
        budget = engine.budget(prompt=QUESTION, language="de", turns=TURNS, model="one", max_new_tokens=8)
        answer(engine, replace(ask(language="de"), turns=TURNS))
        sent = [message["content"] for message in json.loads(budget.prompt)]
        assert [text for _, text in texts(subject._server.requests[-1])] == sent

    def test_the_tokens_of_the_prompt_are_known_at_the_end(self, subject: Subject) -> None:  # type: ignore[override]
        """They are those that the server counts."""
        response = subject.engine.submit(ask())
        assert list(response)
        assert response.prompt_tokens == PROMPT_TOKENS

    def test_the_status_names_the_ready_model(self, subject: Subject) -> None:  # type: ignore[override]
        """And the server that answers instead of a precision and a device."""
        assert answer(subject.engine, ask())
        wait_until(lambda: subject.engine.status().status == "ready")
        status = subject.engine.status()
        assert (status.model, status.precision, status.device) == ("one", "remote", subject._server.host)


def test_models_of_this_machine_and_remote_ones_are_offered_together(open_engine: Open) -> None:
    local, remote = FakeEngine(PARROT), open_engine()
    engine = JoinedEngine([local, remote], ["echo", "parrot"])
    assert (list(engine.specs), engine.default.name) == (["echo", "parrot"], "echo")
    assert answer(engine, ask()).endswith("of echo")
    assert engine.status().model == "echo"
    assert answer(engine, ask(model="parrot")) == QUESTION
    assert engine.status().model == "parrot"
    with pytest.raises(UserError, match="Choose among echo, parrot"):
        engine.submit(ask(model="other"))
    with pytest.raises(PromptError):
        engine.submit(ask("word " * 9_000, model="echo"))
    wait_until(lambda: set(engine.status().loaded) == {"echo", "parrot"})
    stopping = threading.Thread(target=engine.stop)
    stopping.start()
    stopping.join()
    with pytest.raises(BusyError):
        engine.submit(ask())
