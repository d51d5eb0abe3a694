"""One loaded BLIP-2: pixel values become image features, features and token ids become embeddings.

All its families go the same way: ViT, Q-Former and projection once an image, the result in front of the prompt's
embeddings, and the language model on from there. Must not import requests, queues or the loader. Only one thread at a
time may compute with it; its tokenizer and its image processor may be used from any.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from blip_space.model.device import ALL_THREADS, free_bytes
from blip_space.model.memory import kv_bytes_per_sequence
from blip_space.model.precision import Precision
from blip_space.model.preparation import Preparation
from blip_space.model.quantisation import scale_bytes
from blip_space.model.tokens import start_token, stop_tokens

MIN_PARAMETERS = 50_000_000
"""Below that, and for few rows, threads wait for each other longer than they compute."""

MEMORY_SHARE, DEFAULT_BATCH_SIZE = 0.5, 16
"""The share of free memory that keys and values may take; and how many rows there are where nobody knows it."""


class Blip2:
    """A `Blip2ForConditionalGeneration` with its preparation; `loader.load` makes one.

    `stop` are the tokens that end an answer, `threads` how many threads its decoding wants on a CPU.
    """

    def __init__(self, network: Any, preparation: Preparation, *, precision: Precision) -> None:
        self.preparation = preparation
        self.spec = preparation.spec
        self.query_tokens = preparation.query_tokens
        self.encode, self.decode, self.pixels = preparation.encode, preparation.decode, preparation.pixels
        self.precision = precision
        self.stop = stop_tokens(network)
        self.threads = 1 if self.spec.parameters < MIN_PARAMETERS else ALL_THREADS
        self._network = network

    @property
    def nbytes(self) -> int:
        """The size of all weights, in bytes, with the scales of those that are quantised."""
        return int(self._network.get_memory_footprint()) + scale_bytes(self._network)

    def expect_many(self) -> None:
        """Take all processors, which pays for many rows at once; a small model is loaded for few, and takes one."""
        torch.set_num_threads(ALL_THREADS)

    def encode_images(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        """Image features of shape (n, query_tokens, hidden)."""
        return self.encode_pixels([self.pixels(pictures)])

    @torch.inference_mode()
    def encode_pixels(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        """Image features of shape (n, query_tokens, hidden) of pixel values, each part (k, 3, size, size), in the
        language model's type and on its device."""
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

    @property
    def language_model(self) -> Any:
        """The Hugging Face language model, whose forward pass a batch calls."""
        return self._network.language_model

    @torch.inference_mode()
    def embed(self, features: torch.Tensor, ids: Sequence[int]) -> torch.Tensor:
        """The embeddings of an image's features (query_tokens, hidden) and of a prompt's ids behind them: (length,
        hidden)."""
        tokens = torch.tensor(ids, dtype=torch.long, device=features.device)
        return torch.cat([features, self._network.get_input_embeddings()(tokens).to(features.dtype)])

    @torch.inference_mode()
    def first_logits(self, features: torch.Tensor, text: str) -> torch.Tensor:
        """Float32 of shape (1, vocabulary): what the first new token after these may be."""
        model = self.language_model
        asked: dict[str, Any] = {"inputs_embeds": self.embed(features, self.encode(text))[None]}
        if model.config.is_encoder_decoder:
            start = start_token(model.generation_config)
            asked["decoder_input_ids"] = torch.tensor([[start]], device=features.device)
        logits: torch.Tensor = model(**asked).logits
        return logits[:, -1].to(torch.float32)

    def max_batch_size(self) -> int:
        """How many answers can be decoded at once, each as long as the window, in half of the memory that is free."""
        free = free_bytes(self.precision.device)
        config = self.language_model.config
        each = kv_bytes_per_sequence(config, positions=self.spec.context_tokens, size=self.precision.dtype.itemsize)
        return max(1, int(free * MEMORY_SHARE) // each) if free is not None else DEFAULT_BATCH_SIZE

    def close(self) -> None:
        """Free the weights. The model is of no use afterwards."""
        del self._network
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _dtype_of(self, layer: Any) -> torch.dtype:
        """What a layer computes in; a quantised one, whose weight is of whole numbers, in what the others do."""
        stored: torch.dtype = layer.weight.dtype
        return stored if stored.is_floating_point else self.precision.dtype
