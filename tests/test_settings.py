"""Laws of the settings: options before environment variables before defaults."""

import os
from pathlib import Path

import pytest

from blip_space import settings
from blip_space.engine.request import EngineConfig
from blip_space.errors import UserError
from blip_space.settings.libraries import PROXIES


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "MODEL",
        "PRECISION",
        "HOST",
        "PORT",
        "MODELS",
        "ROWS",
        "ADAPTER",
        "RAY",
        "REPLICAS",
        "SLOTS",
        "DEVICE",
        "ROOT_PATH",
        "DRAIN",
        "KEYS",
        "REQUESTS_PER_MINUTE",
        "ANSWERS_AT_ONCE",
        "LOG_FORMAT",
    ):
        monkeypatch.delenv(f"BLIP_SPACE_{name}", raising=False)
    for name in ("GRADIO_SERVER_NAME", "GRADIO_SERVER_PORT", "PORT"):
        monkeypatch.delenv(name, raising=False)


def test_the_default_is_the_embedded_model_on_localhost() -> None:
    assert settings.read() == settings.Settings("tiny", "auto", "127.0.0.1", 7860, ("tiny",), 0)


def test_options_come_before_environment_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLIP_SPACE_MODEL", "mblip-mt0-xl")
    monkeypatch.setenv("BLIP_SPACE_PORT", "8000")
    assert (settings.read().model, settings.read().port) == ("mblip-mt0-xl", 8000)
    assert settings.read({"model": "tiny", "port": 9000, "host": None}).model == "tiny"
    assert settings.read({"port": 9000}).port == 9000


def test_the_default_model_is_always_selectable_and_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLIP_SPACE_MODELS", "mblip-mt0-xl, tiny,mblip-mt0-xl,")
    assert settings.read().models == ("tiny", "mblip-mt0-xl")


def test_the_host_is_also_read_from_gradios_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_SERVER_NAME", "0.0.0.0")
    assert settings.read().host == "0.0.0.0"
    monkeypatch.setenv("BLIP_SPACE_HOST", "127.0.0.2")
    assert settings.read().host == "127.0.0.2"


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http", "80.5", "٣٣"])
def test_an_invalid_port_is_rejected(port: str) -> None:
    with pytest.raises(UserError, match="whole number from 1 to 65535"):
        settings.read({"port": port})


def test_the_batch_size_is_limited_by_an_option_or_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLIP_SPACE_ROWS", "4")
    assert settings.read().rows == 4
    assert settings.read({"rows": 8}).rows == 8
    with pytest.raises(UserError, match="whole number from 1 to 1024"):
        settings.read({"rows": "none"})


def test_the_device_is_set_by_an_option_or_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.read().device == "auto"
    monkeypatch.setenv("BLIP_SPACE_DEVICE", "cuda:1")
    assert settings.read().device == "cuda:1"
    assert settings.read({"device": "cpu"}).device == "cpu"


@pytest.mark.parametrize(
    ("text", "devices"),
    [("auto", ("auto",)), ("cpu", ("cpu",)), (" cuda:1, cuda:0,cuda:1,", ("cuda:1", "cuda:0")), ("gpu", ("gpu",))],
)
def test_several_gpus_have_commas_between_them(text: str, devices: tuple[str, ...]) -> None:
    assert settings.Settings(device=text).devices == devices


@pytest.mark.parametrize(
    ("text", "other"), [("cuda:0,cpu", "cpu"), ("auto,cuda:1", "auto"), ("cuda:0,cuda:x", "cuda:x")]
)
def test_several_devices_are_gpus(text: str, other: str) -> None:
    with pytest.raises(UserError, match=f"^'{other}' cannot be one of several devices"):
        assert settings.Settings(device=text).devices


@pytest.mark.parametrize(("value", "expected"), [(None, False), ("", False), ("someone/a-space", True)])
def test_a_space_is_known_by_its_id(monkeypatch: pytest.MonkeyPatch, value: str | None, expected: bool) -> None:
    monkeypatch.delenv("SPACE_ID", raising=False)
    if value is not None:
        monkeypatch.setenv("SPACE_ID", value)
    assert settings.is_hugging_face_space() is expected


def test_the_number_of_replicas_is_automatic_or_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BLIP_SPACE_RAY", "auto")
    assert (settings.read().ray, settings.read().replicas) == ("auto", 0)
    assert settings.read({"replicas": "3"}).replicas == 3
    with pytest.raises(UserError, match="whole number from 1 to 1024"):
        settings.read({"replicas": "none"})


SERVICE = "tcp://10.96.0.12:7860"


@pytest.mark.parametrize("value", [SERVICE, "udp://10.0.0.1:53", "tcp://[fd00::12]:7860", f" {SERVICE}\n"])
@pytest.mark.parametrize(
    ("name", "service"), [("BLIP_SPACE_PORT", "blip-space"), ("GRADIO_SERVER_PORT", "gradio-server")]
)
def test_the_port_of_a_kubernetes_service_is_ignored_with_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, service: str, value: str
) -> None:
    """The case port-of-a-service: the container stopped at startup, and the message named no variable."""
    monkeypatch.setenv(name, value)
    assert settings.read().port == 7860
    (line,) = caplog.messages
    assert line.startswith(f"{name} is {value.strip()!r} and is ignored: Kubernetes sets it")
    assert f"a service called '{service}'" in line
    assert "enableServiceLinks: false" in line


def test_a_port_from_another_source_is_used_without_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("BLIP_SPACE_PORT", SERVICE)
    assert settings.read({"port": 9000}).port == 9000
    assert caplog.messages == []
    monkeypatch.setenv("GRADIO_SERVER_PORT", "8001")
    assert settings.read().port == 8001


@pytest.mark.parametrize("name", ["BLIP_SPACE_PORT", "GRADIO_SERVER_PORT", "BLIP_SPACE_ROWS", "BLIP_SPACE_REPLICAS"])
def test_an_error_names_its_variable(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "http")
    with pytest.raises(UserError, match=rf"^{name} is 'http'; it must be a whole number from 1 to \d+\.$"):
        settings.read()


@pytest.mark.parametrize("name", ["port", "rows", "replicas"])
def test_an_error_names_its_option(name: str) -> None:
    with pytest.raises(UserError, match=rf"^--{name} is 'x{{39}}…'; it must be"):
        settings.read({name: "x" * 50})
    with pytest.raises(UserError, match=rf"^--{name} is '9{{39}}…'; it must be"):
        settings.read({name: "9" * 5_000})


def test_an_invalid_port_does_not_stop_a_command_without_a_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """`BLIP_SPACE_PORT=abc` stopped `ask`."""
    monkeypatch.setenv("BLIP_SPACE_PORT", "abc")
    monkeypatch.setenv("BLIP_SPACE_ROWS", "abc")
    monkeypatch.setenv("BLIP_SPACE_MODEL", "mblip-mt0-xl")
    assert settings.read({"model": None, "precision": "bf16"}).model == "mblip-mt0-xl"


def test_the_port_is_also_read_from_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cloud Run, Heroku and Render set it. Elsewhere it may mean something else."""
    monkeypatch.setenv("PORT", "7941")
    assert settings.read().port == 7941
    assert settings.read({"port": "9000"}).port == 9000
    for value in (SERVICE, "http", "0", "99999", ""):
        monkeypatch.setenv("PORT", value)
        assert settings.read().port == 7860
    monkeypatch.setenv("PORT", "7941")
    monkeypatch.setenv("BLIP_SPACE_PORT", "8000")
    assert settings.read().port == 8000


def test_beside_port_the_server_listens_on_all_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts that set it connect from outside; a port that the operator chose says nothing of that."""
    monkeypatch.setenv("PORT", "7941")
    assert settings.read().host == "0.0.0.0"
    assert settings.read({"port": "7941", "host": None}).host == "127.0.0.1"
    assert settings.read({"port": None, "host": "127.0.0.3"}).host == "127.0.0.3"
    monkeypatch.setenv("BLIP_SPACE_HOST", "127.0.0.2")
    assert settings.read().host == "127.0.0.2"
    monkeypatch.delenv("BLIP_SPACE_HOST")
    monkeypatch.setenv("PORT", "http")
    assert settings.read().host == "127.0.0.1"


def test_a_root_path_is_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.read().root_path == ""
    for text, path in {"/blip": "/blip", "/a/b-c.d/": "/a/b-c.d", "/": ""}.items():
        assert settings.read({"root_path": text}).root_path == path
    monkeypatch.setenv("BLIP_SPACE_ROOT_PATH", "/env")
    assert settings.read().root_path == "/env"
    for text in ("blip", "//other.example", "https://other.example/x", "/a/../b", "/a b"):
        with pytest.raises(UserError, match=r"^--root-path is '.*'; it must be a path such as /blip"):
            settings.read({"root_path": text})


def test_seconds_to_drain_may_be_0(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.read().drain == 0
    monkeypatch.setenv("BLIP_SPACE_DRAIN", "30")
    assert (settings.read().drain, settings.read({"drain": "0"}).drain) == (30, 0)
    with pytest.raises(UserError, match=r"^--drain is '-1'; it must be a whole number from 0 to 3600\.$"):
        settings.read({"drain": "-1"})


def test_proxies_are_not_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradio asked itself for its page through the proxy, and the server ended with a traceback."""
    for name in (*PROXIES, "no_proxy"):
        for variable in (name, name.upper()):
            monkeypatch.setenv(variable, "")  # restored after the test
            monkeypatch.delenv(variable)
    settings.bypass_proxies("localhost")
    assert "no_proxy" not in os.environ
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "intranet.example, localhost")
    settings.bypass_proxies("localhost", "127.0.0.1", "0.0.0.0")
    assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == "intranet.example,localhost,127.0.0.1"


def test_a_folder_for_uploads_is_created_or_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "new" / "uploads"))
    settings.check_upload_folder()
    assert (tmp_path / "new" / "uploads").is_dir()
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "file" / "uploads"))
    with pytest.raises(UserError, match=r"^Uploads cannot be stored in '.*/file/uploads'.* \(not a directory\)\. Name"):
        settings.check_upload_folder()


def test_a_blank_variable_is_ignored_and_an_empty_option_is_rejected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BLIP_SPACE_HOST", "  ")
    assert settings.read().host == "127.0.0.1"
    with pytest.raises(UserError, match=r"^--model is empty\. Name one, or leave the option out\.$"):
        settings.read({"model": ""})
    assert settings.read({"adapter": ""}).adapter == ""


@pytest.mark.parametrize(("value", "is_kept"), [(SERVICE, False), ("http", False), ("8001", True)])
def test_a_port_with_which_gradio_cannot_be_imported_is_removed(
    monkeypatch: pytest.MonkeyPatch, value: str, is_kept: bool
) -> None:
    monkeypatch.setenv("GRADIO_SERVER_PORT", value)
    settings.hide_port_from_gradio()
    assert ("GRADIO_SERVER_PORT" in os.environ) == is_kept


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("MODEL", "nonsense", "There is no model 'nonsense'."),
        ("MODELS", "tiny,bogus", "There is no model, and no folder, 'bogus'."),
        ("ADAPTER", "/nope/x", "There is no folder 'x' for the adapter."),
        ("HOST", "999.1.1.1", "'999.1.1.1' is no address of this machine."),
    ],
)
def test_an_error_about_a_value_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(f"BLIP_SPACE_{name}", value)
    assert settings.with_origin(message, {}) == f"{message} That comes from BLIP_SPACE_{name}."
    assert settings.with_origin(message, {name.lower(): value}) == message
    assert settings.with_origin("Another thing.", {}) == "Another thing."


def test_an_empty_variable_is_the_default_and_an_empty_option_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--model ""` meant the current folder."""
    monkeypatch.setenv("BLIP_SPACE_MODEL", "")
    monkeypatch.setenv("BLIP_SPACE_MODELS", " ")
    assert (settings.read().model, settings.read().models) == ("tiny", ("tiny",))
    for name in ("model", "models", "precision", "host"):
        with pytest.raises(UserError, match=rf"^--{name} is empty\."):
            settings.read({name: "  "})


def test_an_invalid_port_stops_only_the_command_that_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLIP_SPACE_PORT", "abc")
    assert settings.read({"model": None, "precision": None, "adapter": None}).model == "tiny"
    with pytest.raises(UserError, match=r"^BLIP_SPACE_PORT is 'abc'; it must be a whole number"):
        settings.read()


def test_the_way_to_decode_is_set_by_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.fixed_slots() is EngineConfig().slots is None
    monkeypatch.setenv("BLIP_SPACE_SLOTS", "1")
    assert settings.fixed_slots() is EngineConfig().slots is True
    monkeypatch.setenv("BLIP_SPACE_SLOTS", "0")
    assert settings.fixed_slots() is EngineConfig().slots is False
    monkeypatch.setenv("BLIP_SPACE_SLOTS", "yes")
    with pytest.raises(UserError, match="BLIP_SPACE_SLOTS is 'yes'; it must be 0 or 1"):
        settings.fixed_slots()


def test_graphs_are_on_unless_a_variable_is_0(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.step_graphs() is EngineConfig().graphs is True
    monkeypatch.setenv("BLIP_SPACE_GRAPHS", "1")
    assert settings.step_graphs() is True
    monkeypatch.setenv("BLIP_SPACE_GRAPHS", "0")
    assert settings.step_graphs() is EngineConfig().graphs is False
    monkeypatch.setenv("BLIP_SPACE_GRAPHS", "off")
    with pytest.raises(UserError, match="BLIP_SPACE_GRAPHS is 'off'; it must be 0 or 1"):
        settings.step_graphs()


def test_the_process_of_the_engine_is_set_by_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BLIP_SPACE_PROCESS", raising=False)
    assert settings.engine_process() is None
    for text, value in (("1", True), ("0", False)):
        monkeypatch.setenv("BLIP_SPACE_PROCESS", text)
        assert settings.engine_process() is value
    monkeypatch.setenv("BLIP_SPACE_PROCESS", "2")
    with pytest.raises(UserError, match="BLIP_SPACE_PROCESS is '2'; it must be 0 or 1"):
        settings.engine_process()


@pytest.mark.parametrize(("value", "hides"), [(None, False), ("0", False), ("1,2", False), ("", True), ("-1", True)])
def test_gpus_are_hidden_by_an_empty_list(monkeypatch: pytest.MonkeyPatch, value: str | None, hides: bool) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if value is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert settings.hides_gpus() is hides


def test_steps_are_fused_unless_a_variable_is_0(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.fused_steps() is EngineConfig().fused is True
    monkeypatch.setenv("BLIP_SPACE_FUSED", "0")
    assert settings.fused_steps() is EngineConfig().fused is False
    monkeypatch.setenv("BLIP_SPACE_FUSED", "no")
    with pytest.raises(UserError, match="BLIP_SPACE_FUSED is 'no'; it must be 0 or 1"):
        settings.fused_steps()


def test_keys_are_in_a_file_or_a_list(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "keys.txt"
    file.write_text(f"# of a team\n{'a' * 16}\n\n {'b' * 16} \n{'a' * 16}\n")
    for text in (str(file), f"{'a' * 16}, {'b' * 16},"):
        monkeypatch.setenv("BLIP_SPACE_KEYS", text)
        chosen = settings.read()
        assert chosen.keys == ("a" * 16, "b" * 16)
        assert "a" * 16 not in repr(chosen)


@pytest.mark.parametrize("text", ["short-secret", f"{'a' * 16},spaces in the middle", "/nothing/keys.txt", ","])
def test_invalid_keys_are_refused_and_not_repeated(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("BLIP_SPACE_KEYS", text)
    with pytest.raises(UserError, match="BLIP_SPACE_KEYS") as refused:
        settings.read()
    assert text not in str(refused.value) or text == ","


def test_requests_are_not_limited_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (settings.read().requests_per_minute, settings.read().answers_at_once) == (0, 0)
    monkeypatch.setenv("BLIP_SPACE_REQUESTS_PER_MINUTE", "60")
    assert settings.read({"requests_per_minute": None, "answers_at_once": "3"}).requests_per_minute == 60
    with pytest.raises(UserError, match="--answers-at-once is '-1'"):
        settings.read({"answers_at_once": "-1"})


def test_a_log_has_a_known_format() -> None:
    assert settings.read({"log_format": "json"}).log_format == "json"
    with pytest.raises(UserError, match="must be text or json"):
        settings.read({"log_format": "xml"})
