#!/usr/bin/env bash
# transformers 5.23.0: in a batch with a longer prompt, `generate(inputs_embeds=..., repetition_penalty=...)` does not
# penalise the first new tokens of the shorter one.
#
# Two prompts are given to a decoder-only model as embeddings, the shorter one padded on the left and masked. With
# embeddings there are no prompt ids, so the penalty counts only the new tokens; but as many positions as a sequence has
# padding are still excluded from the count, and these are now its own first new tokens. The sequence gets another
# answer than alone; without a penalty it gets the same. With ids instead of embeddings the result is right. This
# affects vision-language code that embeds its prompt itself and calls the language model's generate.
#
# Needs Python 3.10 to 3.12 with venv, and a package index. Exits with 0 if this is still so, with 1 if it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.23.0 torch==2.13.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import torch
import transformers
from transformers import OPTConfig, OPTForCausalLM

transformers.logging.set_verbosity_error()
torch.manual_seed(0)
config = OPTConfig(
    vocab_size=40, hidden_size=16, word_embed_proj_dim=16, ffn_dim=32, num_hidden_layers=1, num_attention_heads=2
)
model = OPTForCausalLM(config).eval()
for weight in model.parameters():
    torch.nn.init.normal_(weight, std=0.5)
SHORT, LONG, NEW = [5, 6, 7], [5, 9, 8, 7, 6, 5, 4, 9], 12
padding = len(LONG) - len(SHORT)
alone = torch.tensor([SHORT])
both = torch.tensor([[config.pad_token_id] * padding + SHORT, LONG])
mask = torch.tensor([[0] * padding + [1] * len(SHORT), [1] * len(LONG)])


def new_tokens(ids, mask, *, embedded, penalty):
    """The new tokens of the first sequence."""
    prompt = {"inputs_embeds": model.get_input_embeddings()(ids)} if embedded else {"input_ids": ids}
    settings = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False, "repetition_penalty": penalty}
    with torch.inference_mode():
        return model.generate(**prompt, attention_mask=mask, **settings)[0, -NEW:].tolist()


print(f"transformers {transformers.__version__}, torch {torch.__version__}")
same = {}
for embedded in (False, True):
    for penalty in (1.0, 1.3):
        answers = [
            new_tokens(alone, torch.ones_like(alone), embedded=embedded, penalty=penalty),
            new_tokens(both, mask, embedded=embedded, penalty=penalty),
        ]
        same[embedded, penalty] = answers[0] == answers[1]
        form = "embeddings" if embedded else "ids"
        print(f"{form}, penalty {penalty}: alone {answers[0]}, with a longer prompt {answers[1]}")
expected = {(False, 1.0): True, (False, 1.3): True, (True, 1.0): True, (True, 1.3): False}
print("as described" if same == expected else "this has changed")
sys.exit(same != expected)
PYTHON
