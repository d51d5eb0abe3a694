#!/usr/bin/env bash
# tokenizers 0.23.3: with one more byte a complete character that was decoded before disappears from the text.
#
# If a vocabulary has byte tokens for rare characters (`byte_fallback`, as in SentencePiece models of many languages),
# the ByteFallback decoder decodes a run of bytes as a unit: two emoji are eight bytes in a row, and while the second is
# incomplete the first is decoded to replacement characters too, one per byte. So the text of the first five ids does
# not start with the text of the first four. A stream that decodes all ids at each step and shows the new characters
# removes the first emoji again, or never shows it; `DecodeStream` waits and is right.
#
# Needs Python 3.10 to 3.12 with venv, and a package index. Exits with 0 if this is still so, with 1 if it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check tokenizers==0.23.3
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import tokenizers
from tokenizers import Tokenizer, decoders, models
from tokenizers.decoders import DecodeStream

EMOJI = "\N{GRINNING FACE}"
names = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
vocabulary = {name: number for number, name in enumerate(names)}
tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True, unk_token="<unk>"))
tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
ids = [vocabulary[f"<0x{byte:02X}>"] for byte in (EMOJI * 2).encode()]

print(f"tokenizers {tokenizers.__version__}")
texts = [tokenizer.decode(ids[:count]) for count in range(1, len(ids) + 1)]
for count, text in enumerate(texts, 1):
    print(f"{count} bytes: {text!a}")
stream = DecodeStream(skip_special_tokens=True)
steps = [stream.step(tokenizer, token) for token in ids]
print("DecodeStream:", [step and ascii(step) for step in steps])
lost = [EMOJI not in text for text in texts[3:]]
expected = texts[3] == EMOJI and lost == [False, True, True, True, False] and steps[3] == steps[7] == EMOJI
print("as described" if expected else "this has changed")
sys.exit(not expected)
PYTHON
