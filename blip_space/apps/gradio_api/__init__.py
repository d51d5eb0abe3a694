"""The Gradio API: its endpoints, the parsing of their arguments, and the checks on uploaded files.

Must not import apps.page, which imports this package.
"""
