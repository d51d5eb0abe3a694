"""From a checkpoint to a loaded and tested model.

Depends on torch, transformers and `models`; must not import the engine or anything above it.

    loader           the way from a model's spec to the loaded model
    download         the model's files, and whether they are complete
    preparation      tokenizer and image processor without the weights
    weights          a transformers model from configuration and weights
    precision        the choice of the precision, and its reason; quantization carries it out
    memory           whether weights fit, and how many keys and values do
    adapter          a LoRA adapter; adapter_files finds its files
    selftest         whether the model uses the image, its tokenizer and its own head
    device, progress, library_logging: hardware, progress callbacks, silenced library output
"""
