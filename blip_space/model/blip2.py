"""One loaded BLIP-2: a picture becomes a prefix, a prefix and a prompt become tokens.

Every family takes the same road: ViT, Q-Former and projection once a picture, the result in front of the prompt's
embeddings, and the language model on from there. Knows nothing of conversations, of queues or of where weights lie.
Apart from what its preparation does, only one thread at a time may call it.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from PIL import Image
from transformers import StoppingCriteria, StoppingCriteriaList

from blip_space.catalogue import ModelSpec
from blip_space.model.batch import batch
from blip_space.model.device import ALL_THREADS, free_bytes
from blip_space.model.memory import ran_out, row_bytes
from blip_space.model.padding import padded
from blip_space.model.precision import Precision
from blip_space.model.preparation import Preparation
from blip_space.model.quantisation import scale_bytes
from blip_space.model.quiet import quiet
from blip_space.model.tokens import stop_tokens
from blip_space.model.turns import TurnCache
from blip_space.model.writing import Prompt, Writing
from blip_space.options import GenerationOptions

TURN_CACHE_BYTES, TURN_CACHE_SHARE = 2_000_000_000, 0.125
"""How much of finished turns is kept, and of free memory at most: on BLIP-2 OPT-2.7B in bf16 the former holds about
thirty conversations of 200 positions."""

LEAST_PARAMETERS = 50_000_000
"""Below that, and for few rows, threads wait for each other longer than they compute."""

MEMORY_SHARE, MOST_ROWS = 0.5, 16
"""The share of free memory that rows may take; and how many rows there are where nobody knows what is free."""


class Blip2:
    """A `Blip2ForConditionalGeneration` with its preparation; `loader.load` makes one.

    `threads` is how many threads its decoding wants on a CPU.
    """

    def __init__(self, network: Any, preparation: Preparation, *, precision: Precision) -> None:
        self.preparation = preparation
        self.precision = precision
        self.threads = 1 if preparation.spec.parameters < LEAST_PARAMETERS else ALL_THREADS
        free = free_bytes(precision.device)
        share = TURN_CACHE_BYTES if free is None else int(free * TURN_CACHE_SHARE)
        self.turns = TurnCache(min(TURN_CACHE_BYTES, share))
        self._network = network

    @property
    def spec(self) -> ModelSpec:
        """What is known of the model without its weights."""
        return self.preparation.spec

    @property
    def query_tokens(self) -> int:
        """How many positions an image takes."""
        return self.preparation.query_tokens

    @property
    def stop(self) -> frozenset[int]:
        """The tokens that end an answer."""
        return stop_tokens(self._network)

    @property
    def nbytes(self) -> int:
        """The size of all weights, in bytes, with the scales of those that are quantised."""
        return int(self._network.get_memory_footprint()) + scale_bytes(self._network)

    def expect_many(self) -> None:
        """Take all processors, which pays for many rows at once; a small model is loaded for few, and takes one."""
        torch.set_num_threads(ALL_THREADS)

    def pixels(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        """The pictures as the eyes take them: float32 of shape (n, 3, size, size), on the CPU. From any thread."""
        return self.preparation.pixels(pictures)

    def encode(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        """Prefixes of shape (n, query_tokens, hidden), in the language model's type and on its device."""
        return self.encode_pixels([self.pixels(pictures)])

    @torch.inference_mode()
    def encode_pixels(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        """The same of what `pixels` gave, in one or several parts."""
        network = self._network
        patches = network.vision_model.embeddings.patch_embedding.weight
        pixels = torch.cat(list(parts)).to(patches.device, patches.dtype)
        seen = network.vision_model(pixel_values=pixels, return_dict=True).last_hidden_state
        seen = seen.to(network.query_tokens.dtype)  # under fp16 the Q-Former keeps fp32
        asked = network.qformer(
            query_embeds=network.query_tokens.expand(len(pixels), -1, -1),
            encoder_hidden_states=seen,
            encoder_attention_mask=torch.ones(seen.shape[:-1], dtype=torch.long, device=seen.device),
            return_dict=True,
        ).last_hidden_state
        projection = network.language_projection
        prefix: torch.Tensor = projection(asked.to(self._dtype_of(projection)))
        return prefix.to(network.get_input_embeddings().weight.dtype)

    def count_tokens(self, text: str) -> int:
        """How many tokens the model reads for this text, those that its tokenizer adds included. From any thread."""
        return len(self.token_ids(text))

    def token_ids(self, text: str) -> list[int]:
        """The tokens that the model reads for this text. From any thread."""
        return self.preparation.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of new tokens, without special tokens. From any thread."""
        return self.preparation.decode(ids)

    def first_logits(self, prefix: torch.Tensor, text: str) -> torch.Tensor:
        """Float32 of shape (1, vocabulary): what the first new token may be."""
        return batch(self._network.language_model).join([self._embed(self.prompt(prefix, text, GenerationOptions()))])

    def writing(self) -> Writing:
        """Room for answers that are written together."""
        return Writing(self._network.language_model, self._embed, self.turns, stop=self.stop)

    def prompt(
        self, prefix: torch.Tensor, text: str, options: GenerationOptions, *, picture: str = "", goes_on: bool = False
    ) -> Prompt:
        """What one answer follows; `prefix` is one picture's, of shape (1, query_tokens, hidden).

        Where `picture` names it, what is read is kept for a later turn; `goes_on` says that this is one.
        """
        return Prompt(prefix, tuple(self.preparation.encode(text)), options, picture, goes_on)

    def unread(self, text: str, *, picture: str) -> int:
        """How many positions have to be read of a prompt that goes on from what was said of that picture."""
        ids = self.preparation.encode(text)
        known = self.turns.known(picture, ids)
        return len(ids) - known if known else self.query_tokens + len(ids)

    def rows_that_fit(self) -> int:
        """How many answers can be written at once, each as long as the window, in half of what memory is free now."""
        free = free_bytes(self.precision.device)
        config = self._network.language_model.config
        row = row_bytes(config, positions=self.spec.context_tokens, size=self.precision.dtype.itemsize)
        return max(1, int(free * MEMORY_SHARE) // row) if free is not None else MOST_ROWS

    def ran_out(self, error: BaseException) -> bool:
        """Whether this is memory that ran out."""
        return ran_out(error)

    def stream(self, prompt: Prompt) -> Iterator[int]:
        """New token ids, one at a time, without the stop token; at least one and at most `options.max_new_tokens`.

        Close the iterator to stop.
        """
        writing = self.writing()
        (row,) = writing.join([prompt])
        shown = 0
        while True:
            if row.fault:
                raise row.fault
            yield from row.ids[shown:]
            shown = len(row.ids)
            if row.ended:
                return
            writing.step()

    def search(self, prompts: Sequence[Prompt], *, should_stop: Callable[[], bool]) -> list[list[int]]:
        """For each prompt the new token ids of the best of `options.num_beams` beams, without start and stop tokens.

        All must have the same options. `should_stop` is asked once a step; when it says so, whatever is best by then
        is returned.
        """
        language_model, options = self._network.language_model, prompts[0].options
        embeds, mask = self._aligned([self._embed(prompt) for prompt in prompts])
        with quiet(), torch.inference_mode():
            found = language_model.generate(
                inputs_embeds=embeds,
                attention_mask=mask,
                do_sample=False,
                num_beams=options.num_beams,
                length_penalty=float(options.length_penalty),
                repetition_penalty=float(options.repetition_penalty),
                min_new_tokens=1,
                max_new_tokens=options.max_new_tokens,
                eos_token_id=sorted(self.stop) or None,
                stopping_criteria=StoppingCriteriaList([_Asked(should_stop)]),
            )
        return [self._answer(ids) for ids in found.tolist()]

    def close(self) -> None:
        """Free the weights. The model is of no use afterwards."""
        del self._network
        self.turns.clear()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    @torch.inference_mode()
    def _embed(self, prompt: Prompt) -> torch.Tensor:
        prefix = prompt.prefix[0]
        ids = torch.tensor(prompt.ids, dtype=torch.long, device=prefix.device)
        return torch.cat([prefix, self._network.get_input_embeddings()(ids).to(prefix.dtype)])

    def _aligned(self, prompts: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Prompts as one batch and its mask: padded where the language model expects it."""
        if self._network.language_model.config.is_encoder_decoder:
            return padded(prompts, left=False)
        return padded(prompts, left=True)

    def _answer(self, ids: list[int]) -> list[int]:
        """What lies between the decoder's start token and the first stop token."""
        language_model = self._network.language_model
        new = ids[len(batch(language_model).start) :]
        stop = self.stop
        return new[: next((place for place, token in enumerate(new) if token in stop), len(new))]

    def _dtype_of(self, layer: Any) -> torch.dtype:
        """What a layer computes in; a quantised one, whose weight is of whole numbers, in what the others do."""
        stored: torch.dtype = layer.weight.dtype
        return stored if stored.is_floating_point else self.precision.dtype


class _Asked(StoppingCriteria):  # type: ignore[misc]  # transformers has no types here
    """Ends all beams once the caller says so."""

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        self._should_stop = should_stop

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:  # noqa: ARG002  # its signature
        return torch.full((input_ids.shape[0],), self._should_stop(), device=input_ids.device, dtype=torch.bool)
