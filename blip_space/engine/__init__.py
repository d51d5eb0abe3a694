"""Requests become tokens and text: one core that owns its scheduler, its caches and its batch.

request         what is asked, checked and prepared; every limit (EngineConfig)
sequence        one answer while it is generated
scheduler       which sequences run in the next step
batch           keys and values of rows that are decoded together, and one forward pass for all of them
batch_interface what the two kinds of batch share, over prompts of different lengths (padding)
kv_cache        the buffers of those keys and values
pixel_cache     pixel values of images that were asked about lately
caches          image features and finished prefixes, each within a bound of bytes
sampling        the next token of every sequence
beam_search     beams as sequences of one request
detokenizer     text that grows with its tokens
judgement       whether a finished answer can stand
model_runner    a plan becomes tensors, and those become tokens
output          what comes of a request, step by step
core            EngineCore: add, cancel, step
local           the core in the caller's own thread

It has no thread and no clock. Must not import serving, jobs or apps.
"""
