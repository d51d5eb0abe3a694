"""From a checkpoint to a loaded and tested model.

Depends on torch, transformers and `models`; must not import the engine or anything above it.

    loader           loads a model by its spec; calls all modules below
    download         downloads the model's files and checks that they are complete
    preparation      loads tokenizer and image processor without the weights
    weights          builds the transformers model from configuration and weights
    precision        selects the precision; quantization configures bitsandbytes for it
    memory           whether the weights fit, and how many positions of keys and values do
    adapter          applies a LoRA adapter; adapter_files finds its files
    selftest         checks that the model uses the image, the right tokenizer and its own head
    device, progress, library_logging: hardware, progress callbacks, silenced library output
"""
