"""One server of OpenAI's protocol: the list of its models, and one try of a request. The only importer of openai.

The client's own retries are off, since it sleeps as long as a server says. What it takes for a whole answer is checked:
a stream without a `finish_reason` was cut, whatever its end looks like.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from blip_space.catalogue import ModelSpec
from blip_space.errors import ModelError, RemoteError, quote
from blip_space.options import GenerationOptions
from blip_space.serving.remote.attempts import AttemptError, Timeouts, parse_retry_after
from blip_space.serving.remote.messages import Message

log = logging.getLogger(__name__)

NEEDS_OPENAI = "Remote models need openai, which is not installed: pip install 'openai>=3,<4'."
WINDOW_NAMES = ("max_model_len", "context_length", "context_window", "max_context_length")
"""Where servers write the context window in their list of models, as vLLM, SGLang and LM Studio do."""

MAX_TOKEN_CHARACTERS = 64
"""A stream with more characters for each allowed token is ended: its server does not keep to the limit."""

END_SECONDS = 2.0
"""After the last text, how long the number of tokens and the end of the stream may take."""

TOO_LONG_CODES = ("context_length_exceeded", "string_above_max_length")
TOO_LONG_WORDS = ("context length", "context window", "max_model_len", "too many tokens", "maximum length")


@dataclass(frozen=True)
class ServerModels:
    """What a server says of its models: their names, if it lists any, and the context window of ours, if it says so."""

    names: tuple[str, ...] = ()
    context_tokens: int | None = None


@dataclass(frozen=True)
class Delta:
    """A part of a stream: new text, why it ends, and how many tokens the answer and its prompt have, each if it says
    so."""

    text: str = ""
    finish_reason: str = ""
    tokens: int | None = None
    prompt_tokens: int | None = None


class Connection:
    """The server of one model. Its methods run on one event loop."""

    def __init__(self, spec: ModelSpec, key: str, timeouts: Timeouts) -> None:
        """Raises `ModelError` if openai is not installed."""
        try:
            import openai
        except ImportError:
            raise ModelError(NEEDS_OPENAI) from None
        self._openai: Any = openai
        self._spec, self._host, self._timeouts = spec, spec.server_host, timeouts
        self._client = openai.AsyncOpenAI(
            base_url=spec.server,
            api_key=key or "none",  # the client refuses an empty one
            max_retries=0,
            timeout=openai.Timeout(timeouts.silence, connect=timeouts.connect, pool=None),
            http_client=openai.DefaultAsyncHttpxClient(follow_redirects=False),
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def models(self) -> ServerModels:
        """What the server says of its models; nothing if it responds, but has no such list. Raises `AttemptError`."""
        try:
            page = await self._client.models.list(timeout=self._timeouts.models)
            listed = [item for item in page.data if isinstance(getattr(item, "id", None), str)]
        except Exception as error:
            problem = self._explain(error)
            if problem.code == "remote_unavailable" and not self._is_status(error, 404):
                raise problem from error
            return ServerModels()
        own = next((item for item in listed if item.id == self._spec.name), None)
        windows = [getattr(own, name, None) for name in WINDOW_NAMES]
        tokens = next((number for number in windows if isinstance(number, int) and number > 0), None)
        return ServerModels(tuple(item.id for item in listed), tokens)

    async def stream(self, messages: list[Message], options: GenerationOptions) -> AsyncGenerator[Delta, None]:
        """Yields the parts of an answer; the last but one has a `finish_reason`. Raises `AttemptError`."""
        try:
            opened = await self._client.chat.completions.create(**_arguments(self._spec.name, messages, options))
            async with opened as stream:  # leaving the loop would keep the request running
                async for delta in self._deltas(stream, MAX_TOKEN_CHARACTERS * options.max_new_tokens):
                    yield delta
        except AttemptError:
            raise
        except Exception as error:
            raise self._explain(error) from error

    async def _deltas(self, stream: Any, max_characters: int) -> AsyncIterator[Delta]:
        characters, reason = 0, ""
        chunks = stream.__aiter__()
        while True:
            try:
                chunk = await asyncio.wait_for(chunks.__anext__(), END_SECONDS if reason else None)
            except StopAsyncIteration:
                break
            except Exception:
                if reason:  # the answer is complete
                    break
                raise
            delta = _parse_chunk(chunk)
            characters += len(delta.text)
            reason = reason or delta.finish_reason or ("length" if characters > max_characters else "")
            yield replace(delta, finish_reason=reason)
            if characters > max_characters:
                break
        if not reason:
            raise AttemptError(
                f"{self._host} cut its answer off. Ask again." if characters else self._no_answer(), may_retry=True
            )

    def _no_answer(self) -> str:
        return f"{self._host} sent no answer in the form of OpenAI's protocol. Ask again, or check its address."

    def _is_status(self, error: Exception, status: int) -> bool:
        return isinstance(error, self._openai.APIStatusError) and error.status_code == status

    def _explain(self, error: Exception) -> AttemptError:
        """What an exception of the client means. Its text may quote the server, so it is not logged."""
        openai, host = self._openai, self._host
        log.info("a request to %s failed: %s", host, type(error).__name__)
        if isinstance(error, openai.APITimeoutError | TimeoutError | asyncio.TimeoutError):
            sentence = f"{host} sent nothing for {self._timeouts.silence:g} seconds. Try again later."
            return AttemptError(sentence, "timed_out", may_retry=True)
        if isinstance(error, openai.APIConnectionError):
            sentence = f"{host} cannot be reached. Check that it runs, or choose another model."
            return AttemptError(sentence, "remote_unavailable", may_retry=True)
        if isinstance(error, openai.APIStatusError):
            return self._explain_status(error)
        if isinstance(error, openai.APIError):
            return AttemptError(f"{host} reports an error: {_message(error)}. Ask again.", may_retry=True)
        return AttemptError(self._no_answer(), may_retry=True)  # neither the protocol nor JSON

    def _explain_status(self, error: Any) -> AttemptError:
        status, host, message = error.status_code, self._host, _message(error)
        retry_after = parse_retry_after(error.response.headers.get("retry-after"))
        if status in (401, 403):
            return AttemptError(
                f"{host} refuses the key. The operator sets it in BLIP_SPACE_OPENAI_KEY.", "remote_unavailable"
            )
        if status == 404:
            sentence = f"{host} has no model {quote(self._spec.name, 80)} at this address."
            return AttemptError(f"{sentence} Check its name, and the path, which is often /v1.", "remote_unavailable")
        if status == 429:
            wait = f"in {retry_after:.0f} s" if retry_after else "later"
            return AttemptError(f"{host} is busy. Try again {wait}.", "busy", may_retry=True, retry_after=retry_after)
        if status >= 500 or status in (408, 409):
            sentence = f"{host} failed with status {status}: {message}. Try again later."
            return AttemptError(sentence, may_retry=True, retry_after=retry_after)
        if status < 400:
            return AttemptError(f"{host} redirects to another address, which is not followed.", "remote_unavailable")
        if _is_too_long(error):
            sentence = f"The question is too long for the model of {host}: {message}. Shorten it, or clear the history."
            return AttemptError(sentence, "prompt_too_long")
        return AttemptError(f"{host} refuses the request with status {status}: {message}.")


def ask_models(spec: ModelSpec, key: str) -> str:
    """A sentence on whether a remote model can be used. Raises `RemoteError` if it cannot."""

    async def ask() -> ServerModels:
        connection = Connection(spec, key, Timeouts())
        try:
            return await connection.models()
        finally:
            await connection.close()

    try:
        with ThreadPoolExecutor(1) as pool:  # this thread may have a loop that runs
            listed = pool.submit(lambda: asyncio.run(ask())).result().names
    except AttemptError as error:
        error.raise_for_user()
    if listed and spec.name not in listed:
        raise RemoteError(f"{spec.server_host} lists {', '.join(listed[:5])}, and not {quote(spec.name, 80)}.")
    return f"{spec.server_host} responds, and would answer as {spec.name}."


def _arguments(model: str, messages: list[Message], options: GenerationOptions) -> dict[str, Any]:
    """The arguments of a request: only those that differ from what every server does by itself."""
    arguments: dict[str, Any] = {
        "model": model,
        "messages": messages,
        "max_tokens": options.max_new_tokens,
        "temperature": options.temperature,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if options.temperature > 0:
        arguments |= {"seed": options.seed, "top_p": options.top_p}
    if options.repetition_penalty != 1:
        arguments["extra_body"] = {"repetition_penalty": options.repetition_penalty}  # vLLM, SGLang and lmdeploy
    return arguments


def _parse_chunk(chunk: Any) -> Delta:
    """The parts of a chunk, of which the client checks none."""
    choices = getattr(chunk, "choices", None)
    choice = choices[0] if isinstance(choices, list) and choices else None
    text = getattr(getattr(choice, "delta", None), "content", None)
    reason = getattr(choice, "finish_reason", None)
    counts = [getattr(getattr(chunk, "usage", None), f"{name}_tokens", None) for name in ("completion", "prompt")]
    tokens, prompt_tokens = (count if isinstance(count, int) and count >= 0 else None for count in counts)
    return Delta(
        text if isinstance(text, str) else "", reason if isinstance(reason, str) else "", tokens, prompt_tokens
    )


def _message(error: Any) -> str:
    """What the server says, on one line and not longer than a sentence; a page of HTML is left out."""
    body = error.body
    nested = body.get("error", body) if isinstance(body, dict) else None
    message = nested.get("message") if isinstance(nested, dict) else nested
    if message is None and isinstance(body, dict):
        message = body.get("message") or body.get("detail")
    if not isinstance(message, str) or "<" in message[:20]:
        return "it gives no reason"
    return quote(" ".join(message.split()).rstrip("."), 200)


def _is_too_long(error: Any) -> bool:
    code = getattr(error, "code", None)
    text = ""
    with suppress(Exception):
        text = str(error.body).lower()[:2_000]
    return code in TOO_LONG_CODES or any(words in text for words in TOO_LONG_WORDS)
