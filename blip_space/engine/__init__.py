"""Turns requests into tokens and text. The entry point is `core.EngineCore`: `add`, `cancel`, `step`.

request           a user's request, checked and prepared; EngineConfig
sequence          one answer while it is generated
scheduler         which sequences run in the next step
plan              what that step does
fairness          whose sequence is next
preemption        whose sequence loses its slot or its memory
memory_limits     how many rows there may be, and how many after memory ran out
model_runner      executes the scheduler's plan with the model
batch             chooses the batch layout for a device
batch_size        how many sequences a device decodes at once by default
batch_interface   the interface of both layouts: prefill, decode, select, merge
left_aligned      rows that end at the same position, for a CPU: prefill and decode
left_aligned_rows the same for both kinds of decoder: mask, lengths, positions
slots             rows in fixed slots, for a GPU: prefill and decode
slot_rows         which slot each row has, and the buffers
slot_batches      the same for both kinds of decoder
slot_prefill      prefills prompts for slots, by a graph where there is one
prefill_functions the forward passes that it captures, for both kinds of decoder
step_graphs       decode steps over slots, captured as graphs
graph_comparison  compares them with eager steps before they are used
function_graphs   graphs of other functions of tensors, likewise compared
image_graphs      encodes images by such graphs
graph_backend     what captures graphs, and why they are off
cuda_graphs       captures on CUDA
kv_cache          keys and values of left-aligned rows
slot_cache        keys and values in slots
padding           prompts and masks of different lengths in one tensor
caches            image features, and keys and values of finished answers
prefix_reuse      which of these later turns use
pixel_cache       pixel values of recent images
sampling          the next token of each sequence
beam_search       beam search: the beams are rows of one sequence
detokenizer       incremental detokenization
answers           the unfinished answers, and what a step reports of them
answer_check      whether a finished answer is empty or ends in a loop
output            the result of a step for one request
core              EngineCore: schedule, run the model, return outputs
local             runs the core in the caller's thread

The core has no thread and no clock. Must not import serving, jobs or apps.
"""
