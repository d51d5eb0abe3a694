"""Laws of the settings: the command line over the environment over the defaults."""

import pytest

from blip_space import settings
from blip_space.errors import UserError


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MODEL", "PRECISION", "HOST", "PORT", "MODELS", "ROWS", "ADAPTER", "RAY", "REPLICAS"):
        monkeypatch.delenv(f"BLIP_SPACE_{name}", raising=False)
    for name in ("GRADIO_SERVER_NAME", "GRADIO_SERVER_PORT"):
        monkeypatch.delenv(name, raising=False)


def test_without_anything_said_a_laptop_serves_the_embedded_model_to_itself() -> None:
    assert settings.read() == settings.Settings("tiny", "auto", "127.0.0.1", 7860, ("tiny",), 16)


def test_the_environment_is_heard_and_the_command_line_is_heard_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLIP_SPACE_MODEL", "mblip-mt0-xl")
    monkeypatch.setenv("BLIP_SPACE_PORT", "8000")
    assert (settings.read().model, settings.read().port) == ("mblip-mt0-xl", 8000)
    assert settings.read({"model": "tiny", "port": 9000, "host": None}).model == "tiny"
    assert settings.read({"port": 9000}).port == 9000


def test_visitors_may_always_choose_the_default_model_and_it_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLIP_SPACE_MODELS", "mblip-mt0-xl, tiny,mblip-mt0-xl,")
    assert settings.read().models == ("tiny", "mblip-mt0-xl")


def test_a_space_tells_the_address_through_gradios_own_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_SERVER_NAME", "0.0.0.0")
    assert settings.read().host == "0.0.0.0"
    monkeypatch.setenv("BLIP_SPACE_HOST", "127.0.0.2")
    assert settings.read().host == "127.0.0.2"


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http", "80.5", "٣٣"])
def test_a_port_that_is_none_is_a_sentence(port: str) -> None:
    with pytest.raises(UserError, match="whole number from 1 to 65535"):
        settings.read({"port": port})


def test_an_owner_bounds_the_memory_of_the_answers_in_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLIP_SPACE_ROWS", "4")
    assert settings.read().rows == 4
    assert settings.read({"rows": 8}).rows == 8
    with pytest.raises(UserError, match="whole number from 1 to 1024"):
        settings.read({"rows": "none"})


def test_a_cluster_has_as_many_replicas_as_it_has_room_for_or_as_the_owner_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BLIP_SPACE_RAY", "auto")
    assert (settings.read().ray, settings.read().replicas) == ("auto", 0)
    assert settings.read({"replicas": "3"}).replicas == 3
    with pytest.raises(UserError, match="whole number from 1 to 1024"):
        settings.read({"replicas": "none"})
