"""Requests become tokens and text. `core.EngineCore` is the entry: add, cancel, step.

request           what a user asks, checked and prepared; EngineConfig
sequence          one answer while it is generated
scheduler         which sequences run in the next step
model_runner      a plan becomes tensors, and tensors become tokens
batch             the batch that suits a device
batch_size        how many sequences a device decodes at once
batch_interface   prefill, decode, select, merge: what both batches do
left_aligned      rows that end at the same position, for a CPU
slots             rows in fixed slots, for a GPU
kv_cache          keys and values of left-aligned rows
slot_cache        keys and values in slots
padding           prompts and masks of different lengths in one tensor
caches            image features, and keys and values of finished answers
pixel_cache       pixel values of recent images
sampling          the next token of each sequence
beam_search       beams as rows of one sequence
detokenizer       text that grows with its tokens
answer_check      whether a finished answer is empty or ends in a loop
output            the result of a step for one request
core              schedule, run, settle
local             the core in the caller's thread

No thread and no clock. Must not import serving, jobs or apps.
"""
