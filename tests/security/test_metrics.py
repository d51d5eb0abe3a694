"""`GET /metrics` adds up after several clients, and says nothing of what they sent."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from prometheus_client.parser import text_string_to_metric_families

from tests.apps.fake_engine import BROKEN, BUSY, FakeEngine
from tests.example_images import blue_circles

CLIENTS = 32
PROMPT = "a secret word"

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(web: httpx.Client) -> Samples:
    """Every sample, by its name and labels."""
    families = text_string_to_metric_families(web.get("/metrics").raise_for_status().text)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def total(samples: Samples, name: str, **labels: str) -> float:
    """The sum of the samples of a name that have these labels."""
    return sum(value for (found, own), value in samples.items() if found == name and labels.items() <= set(own))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image with a name of its own."""
    file = tmp_path_factory.mktemp("images") / "private-name.png"
    file.write_bytes(blue_circles())
    return file


def test_the_counts_are_those_of_the_clients(url: str, web: httpx.Client, image: Path) -> None:
    def ask(number: int) -> str:
        client = Client(url, verbose=False)
        prompt = (PROMPT, BUSY, BROKEN, None)[number % 4]
        try:
            if prompt is None:
                return str(client.predict(handle_file(image), api_name="/caption"))
            return str(client.predict(handle_file(image), prompt, api_name="/chat"))
        except AppError as error:
            return str(error.title)

    before = scrape(web)
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(ask, range(CLIENTS)))
    after = scrape(web)

    def grown(name: str, **labels: str) -> float:
        return total(after, name, **labels) - total(before, name, **labels)

    quarter = CLIENTS // 4
    assert replies.count(PROMPT) == replies.count("busy") == quarter
    assert grown("blip_space_requests_total", endpoint="chat") == 3 * quarter
    assert grown("blip_space_requests_total", endpoint="chat", outcome="answered") == quarter
    assert grown("blip_space_requests_total", endpoint="chat", outcome="busy") == quarter
    assert grown("blip_space_requests_total", endpoint="caption", outcome="answered") == quarter
    assert grown("blip_space_answers_total") == grown("blip_space_requests_total") == CLIENTS
    assert grown("blip_space_answer_seconds_count") == 2 * quarter
    assert grown("blip_space_first_token_seconds_count") == 2 * quarter  # a beam search shows its text at the end
    words = sum(len(reply.split()) for reply in replies[::4] + replies[3::4])
    assert grown("blip_space_generated_tokens_total") == words
    assert grown("blip_space_http_responses_total", route="join", status="200") == CLIENTS


def test_an_answer_that_its_client_leaves_is_cancelled(
    url: str, web: httpx.Client, engine: FakeEngine, image: Path
) -> None:
    before = scrape(web)
    engine.hold()
    try:
        job = Client(url, verbose=False).submit(handle_file(image), "one two three", api_name="/chat")
        next(iter(job))
        job.cancel()
        wait_for(lambda: total(scrape(web), "blip_space_answers_total", outcome="cancelled") == 1)
    finally:
        engine.release()
    after = scrape(web)
    for outcome, count in (("cancelled", 1), ("answered", 0)):
        name = "blip_space_requests_total"
        assert total(after, name, outcome=outcome) - total(before, name, outcome=outcome) == count


def test_the_state_of_the_engine_is_that_of_its_status(web: httpx.Client, engine: FakeEngine) -> None:
    engine.set_status(waiting=3, running=2)
    samples = scrape(web)
    assert (total(samples, "blip_space_waiting"), total(samples, "blip_space_running")) == (3, 2)
    assert total(samples, "blip_space_ready") == 1
    assert total(samples, "blip_space_model_info", model="parrot", precision="fp32", device="cpu") == 1
    assert total(samples, "process_resident_memory_bytes") > 10_000_000
    engine.set_status(status="loading", waiting=0, running=0)
    assert total(scrape(web), "blip_space_ready") == 0
    engine.reset()


def test_nothing_of_users_is_in_it(web: httpx.Client) -> None:
    """After the tests above."""
    answer = web.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    for secret in ("secret", "private-name", "127.0.0.1", "/tmp"):
        assert secret not in answer.text


def test_it_can_only_be_read(web: httpx.Client) -> None:
    answer = web.post("/metrics")
    assert (answer.status_code, answer.json()["code"]) == (405, "not_found")


def wait_for(condition: object, seconds: float = 20.0) -> None:
    """Return when it is true."""
    assert callable(condition)
    waiting = threading.Event()
    for _ in range(int(seconds / 0.05)):
        if condition():
            return
        waiting.wait(0.05)
    pytest.fail("it did not become true")


@pytest.mark.parametrize("document", ["grafana.json", "operating.md"])
def test_documents_name_only_metrics_that_there_are(web: httpx.Client, document: str) -> None:
    """After the tests above, since a metric with labels has no sample before its first event."""
    text = (Path(__file__).resolve().parents[2] / "docs" / document).read_text("utf-8")
    known = {name for name, _ in scrape(web)}
    named = set(re.findall(r"\b(?:blip_space|process)_[a-z_]+\b", text)) - {"process_max_fds"}
    histograms = {name.removesuffix("_bucket") for name in known if name.endswith("_bucket")}
    assert named
    assert named <= known | histograms
