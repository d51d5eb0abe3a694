"""One loaded BLIP-2: a picture becomes a prefix, a prefix and a prompt become tokens.

Every family takes the same road: ViT, Q-Former and projection once a picture, the result in front of the prompt's
embeddings, and the language model on from there. Knows nothing of conversations, of queues or of where weights lie.
Apart from `count_tokens` and `decode`, only one thread at a time may call it.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from PIL import Image
from transformers import StoppingCriteria, StoppingCriteriaList

from blip_space.catalogue import ModelSpec
from blip_space.model.choice import Choice
from blip_space.model.frame import Frame
from blip_space.model.precision import Precision
from blip_space.model.quiet import quiet
from blip_space.model.steps import begin, stop_tokens
from blip_space.model.tokens import Tokens
from blip_space.options import GenerationOptions


class Blip2:
    """A `Blip2ForConditionalGeneration` with its tokenizer and its frame; `loader.load` makes one."""

    def __init__(self, network: Any, tokens: Tokens, *, frame: Frame, spec: ModelSpec, precision: Precision) -> None:
        self.spec = spec
        self.precision = precision
        self.query_tokens = int(network.config.num_query_tokens)
        self._network = network
        self._tokens = tokens
        self._frame = frame

    @torch.inference_mode()
    def encode(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        """Prefixes of shape (n, query_tokens, hidden), in the language model's type and on its device."""
        network = self._network
        patches = network.vision_model.embeddings.patch_embedding.weight
        pixels = self._frame.pixels(pictures).to(patches.device, patches.dtype)
        seen = network.vision_model(pixel_values=pixels, return_dict=True).last_hidden_state
        asked = network.qformer(
            query_embeds=network.query_tokens.expand(len(pictures), -1, -1),
            encoder_hidden_states=seen,
            encoder_attention_mask=torch.ones(seen.shape[:-1], dtype=torch.long, device=seen.device),
            return_dict=True,
        ).last_hidden_state
        projection = network.language_projection
        prefix: torch.Tensor = projection(asked.to(projection.weight.dtype))
        return prefix.to(network.get_input_embeddings().weight.dtype)

    def count_tokens(self, text: str) -> int:
        """How many tokens the model reads for this text, those that its tokenizer adds included. From any thread."""
        return len(self._tokens.encode(text))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of new tokens, without special tokens. From any thread."""
        return self._tokens.decode(ids)

    def first_logits(self, prefix: torch.Tensor, text: str) -> torch.Tensor:
        """Float32 of shape (1, vocabulary): what the first new token may be."""
        return begin(self._network.language_model).prefill(self._embed(prefix, text))

    def stream(self, prefix: torch.Tensor, text: str, *, options: GenerationOptions) -> Iterator[int]:
        """New token ids, one at a time, without the stop token; at least one and at most `options.max_new_tokens`.

        `prefix` is one picture's, of shape (1, query_tokens, hidden). Close the iterator to stop.
        """
        language_model = self._network.language_model
        stop = stop_tokens(language_model.generation_config)
        steps = begin(language_model)
        choice = Choice(options, start=steps.start, stop=stop, device=prefix.device)
        token = choice.choose(steps.prefill(self._embed(prefix, text)))
        for left in range(options.max_new_tokens, 0, -1):
            if token in stop:
                return
            yield token
            if left > 1:
                token = choice.choose(steps.step(token))

    def search(
        self, prefix: torch.Tensor, text: str, *, options: GenerationOptions, should_stop: Callable[[], bool]
    ) -> list[int]:
        """The new token ids of the best of `options.num_beams` beams, without start and stop tokens.

        `should_stop` is asked once a step; when it says so, whatever is best by then is returned.
        """
        language_model = self._network.language_model
        embeds = self._embed(prefix, text)
        with quiet(), torch.inference_mode():
            found = language_model.generate(
                inputs_embeds=embeds,
                attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long, device=embeds.device),
                do_sample=False,
                num_beams=options.num_beams,
                length_penalty=float(options.length_penalty),
                repetition_penalty=float(options.repetition_penalty),
                min_new_tokens=1,
                max_new_tokens=options.max_new_tokens,
                stopping_criteria=StoppingCriteriaList([_Asked(should_stop)]),
            )
        return self._answer(found[0].tolist())

    def close(self) -> None:
        """Free the weights. The model is of no use afterwards."""
        del self._network
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    @torch.inference_mode()
    def _embed(self, prefix: torch.Tensor, text: str) -> torch.Tensor:
        ids = torch.tensor([self._tokens.encode(text)], dtype=torch.long, device=prefix.device)
        return torch.cat([prefix, self._network.get_input_embeddings()(ids).to(prefix.dtype)], dim=1)

    def _answer(self, ids: list[int]) -> list[int]:
        """What lies between the decoder's start token and the first stop token."""
        language_model = self._network.language_model
        new = ids[len(begin(language_model).start) :]
        stop = stop_tokens(language_model.generation_config)
        return new[: next((place for place, token in enumerate(new) if token in stop), len(new))]


class _Asked(StoppingCriteria):  # type: ignore[misc]  # transformers has no types here
    """Ends all beams once the caller says so."""

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        self._should_stop = should_stop

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:  # noqa: ARG002  # its signature
        return torch.full((input_ids.shape[0],), self._should_stop(), device=input_ids.device, dtype=torch.bool)
