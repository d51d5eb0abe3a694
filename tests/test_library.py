"""The library: what `import blip_space` offers, on the embedded model, from several threads, and as a wheel."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

import blip_space
from tests.example_images import blue_circles
from tests.test_end_to_end import App, wait_for_status

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "assets" / "examples"
OCTOPUS, BANANAS, SCENE = (EXAMPLES / f"{name}.png" for name in ("octopus", "four-bananas", "whale-and-sailboat"))


@pytest.fixture(scope="module")
def engine() -> Iterator[blip_space.Engine]:
    with blip_space.load("tiny") as loaded:
        yield loaded


def test_what_is_offered_is_there_and_documented() -> None:
    assert sorted(blip_space.__all__) == blip_space.__all__
    for name in blip_space.__all__:
        assert getattr(blip_space, name).__doc__, name
    with pytest.raises(AttributeError, match="nothing"):
        _ = blip_space.nothing


def test_importing_it_imports_neither_torch_nor_gradio() -> None:
    program = (
        "import sys, blip_space, blip_space.library; print({'torch', 'gradio', 'transformers'} & set(sys.modules))"
    )
    assert run(program, cwd=ROOT) == "set()"


def test_an_answer_is_the_last_of_its_stream(engine: blip_space.Engine) -> None:
    texts = list(engine.stream(OCTOPUS, "Was ist das?", language="de"))
    assert texts[-1] == engine.ask(str(OCTOPUS), "Was ist das?", language="de") == "Oktopus"
    assert len(texts) > 1
    assert all(later.startswith(earlier) for earlier, later in pairwise(texts))


def test_earlier_turns_and_decoding_options_are_read(engine: blip_space.Engine) -> None:
    history = [{"role": "user", "content": "How many circles are there?"}, {"role": "assistant", "content": "three"}]
    assert engine.ask(blue_circles(), "What colour are they?", history=history) == "blue"
    assert len(engine.ask(SCENE, max_new_tokens=1)) < len(engine.ask(SCENE))
    with pytest.raises(blip_space.UserError, match="temperature must be a number from 0 to 2"):
        engine.ask(OCTOPUS, temperature=9)
    with pytest.raises(blip_space.PromptError, match="whole turns"):
        engine.ask(OCTOPUS, history=history[:1])


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L"])
def test_an_image_that_pillow_opened_answers_as_its_file(engine: blip_space.Engine, mode: str) -> None:
    with Image.open(OCTOPUS) as opened:
        image = opened.convert(mode)
        assert engine.ask(image, "What is this?") == "octopus"
        assert image.mode == mode, "the caller's image stays as it is"


def test_an_image_that_pillow_opened_is_turned_upright(engine: blip_space.Engine) -> None:
    with Image.open(SCENE) as opened:
        upright = opened.convert("RGB")
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    turned.getexif()[0x0112] = 6
    question = "What is on the left?"
    assert engine.ask(turned, question) == engine.ask(upright, question)


def test_captions_come_in_the_order_of_the_images(engine: blip_space.Engine) -> None:
    sources: list[str | Path | bytes | Image.Image] = [
        OCTOPUS,
        str(BANANAS),
        BANANAS.read_bytes(),
    ] * 20  # more than are in flight at once
    captions = engine.caption(sources)
    assert captions == [engine.caption(OCTOPUS), *[engine.caption(BANANAS)] * 2] * 20
    assert captions[0] != captions[1]


def test_an_image_that_fails_is_named_and_the_others_can_be_had(engine: blip_space.Engine, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_text("no image")
    with pytest.raises(blip_space.ImageError, match=r"broken\.png: The file"):
        engine.caption([OCTOPUS, broken])
    first, error, last = engine.captions([OCTOPUS, broken, OCTOPUS])
    assert first == last == engine.caption(OCTOPUS)
    assert isinstance(error, blip_space.ImageError)


def test_threads_that_ask_at_once_get_their_own_answers(engine: blip_space.Engine) -> None:
    names = {OCTOPUS: "octopus", BANANAS: engine.ask(BANANAS, "What is this?")}
    files = [OCTOPUS, BANANAS] * 25
    with ThreadPoolExecutor(len(files)) as pool:
        answers = list(pool.map(lambda file: engine.ask(file, "What is this?"), files))
    assert answers == [names[file] for file in files]


def test_a_stream_keeps_its_engine_and_a_closed_engine_says_so() -> None:
    stream = blip_space.load("tiny").stream(OCTOPUS, "What is this?")
    assert list(stream)[-1] == "octopus"
    engine = blip_space.load("tiny")
    engine.close()
    engine.close()
    with pytest.raises(blip_space.ModelError, match="This engine is closed"):
        engine.ask(OCTOPUS)


def test_a_model_that_is_not_there_is_a_sentence() -> None:
    with pytest.raises(blip_space.ModelError, match="There is no model, and no folder, 'nonsense'"):
        blip_space.load("nonsense")


def run(program: str, *, cwd: Path) -> str:
    """What a program prints that runs in a folder of its own."""
    done = subprocess.run([sys.executable, "-c", program], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_installed_outside_a_checkout_it_has_its_model_and_its_page(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    for part in ("blip_space", "assets"):
        shutil.copytree(ROOT / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("pyproject.toml", "setup.py", "requirements.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / part, source)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    shutil.rmtree(source)
    program = f"""
import sys
sys.path.insert(0, {str(target)!r})
import blip_space
from blip_space.apps.page import static
styled = all(file.is_file() for file in static.styles())
print(blip_space.__file__.startswith({str(target)!r}), styled, len(static.load_examples()) > 0)
with blip_space.load() as engine:
    print(engine.ask({str(OCTOPUS)!r}, "What is this?"))
"""
    assert run(program, cwd=tmp_path).splitlines() == ["True True True", "octopus"]
    assert (target / "blip_space" / "py.typed").is_file()


@pytest.mark.parametrize(("name", "printed"), [
    ("stream", "Oktopus"), ("history", "What colour are they? blue"), ("folder", "octopus.png\toctopus"),
])  # fmt: skip
def test_an_example_runs(name: str, printed: str) -> None:
    assert printed in example(name)


def test_the_clients_example_runs_against_a_server(tmp_path: Path) -> None:
    app = App(tmp_path)
    try:
        wait_for_status(app.health, "ready")
        assert example("client", app.url).splitlines()[-1] == "blau"
    finally:
        app.close()


def example(name: str, *arguments: str) -> str:
    """What an example prints when it is run from a checkout, as its docstring says."""
    command = [sys.executable, f"examples/{name}.py", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_examples_are_short() -> None:
    for file in (ROOT / "examples").glob("*.py"):
        assert len(file.read_text("utf-8").splitlines()) <= 20, file.name
        assert ast.get_docstring(ast.parse(file.read_text("utf-8"))), file.name
