"""Fused decode steps: one new position per row over transformers' weights, with as few kernels as possible.

operations         the interfaces of steps and of the operations that they consist of
triton_operations  the operations as Triton kernels
kernels            these kernels
product_kernels    products of few rows as Triton kernels
measured_products  the fastest product for each shape, measured on the device
products           one matrix product for several layers
opt, bloom, llama  the steps of these language models
t5                 the step of the decoders of T5 and mT5

A step is for a GPU, where it is captured as a graph and compared with transformers' forward pass before it is used.
`torch.compile` would fuse kernels too, but takes 2 to 7 seconds for every number of rows. Must not import a decoder.
"""
