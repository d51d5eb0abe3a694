"""The chat template of a checkpoint is read from the files in which transformers looks for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from transformers import AutoProcessor, AutoTokenizer

from blip_space.models.chat_template import ChatTemplate, load_chat_template
from tests.checkpoints import llava
from tests.checkpoints.llava import IMAGE_TOKEN, TEMPLATE

FILES = ("chat_template.jinja", "chat_template.json", "processor_config.json", "tokenizer_config.json", "named")


@pytest.mark.parametrize("file", FILES)
def test_the_template_is_found_wherever_transformers_looks_for_it(file: str, tmp_path: Path) -> None:
    folder, own = llava.write(tmp_path / "m", template=""), TEMPLATE.replace("ASSISTANT:'", "ROBOT:'")
    if file == "chat_template.jinja":
        (folder / file).write_text(own)
    elif file == "named":
        (folder / "additional_chat_templates").mkdir()
        (folder / "additional_chat_templates" / "rag.jinja").write_text("wrong")
        (folder / "chat_template.jinja").write_text(own)
    else:
        path = folder / file
        content = json.loads(path.read_text()) if path.is_file() else {}
        path.write_text(json.dumps({**content, "chat_template": own}))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    template = ChatTemplate(tokenizer, load_chat_template(folder, tokenizer), image_token=IMAGE_TOKEN, name="tiny")
    rendered = template.render((), "What?")
    assert rendered.text.endswith("ROBOT:")
    if file != "tokenizer_config.json":
        processor = AutoProcessor.from_pretrained(folder)
        image = {"type": "image", "image": Image.new("RGB", (30, 40))}
        inputs = processor.apply_chat_template(
            [{"role": "user", "content": [image, {"type": "text", "text": "What?"}]}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
        )
        ids = inputs["input_ids"][0] if isinstance(inputs["input_ids"][0], list) else inputs["input_ids"]
        assert [token for token in ids if token != IMAGE_TOKEN] == list(rendered.ids)


def test_the_processors_template_precedes_the_tokenizers(tmp_path: Path) -> None:
    folder = llava.write(tmp_path / "m", template="")
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": "the processor's"}))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = "the tokenizer's"
    assert load_chat_template(folder, tokenizer) == "the processor's"


def test_a_checkpoint_without_a_template_has_none(tmp_path: Path) -> None:
    folder = llava.write(tmp_path / "m", template="")
    assert load_chat_template(folder, AutoTokenizer.from_pretrained(folder)) == ""
