"""Tools for agents, by the Model Context Protocol: `--mcp`, at `/mcp`.

tools     what each tool takes, and how its arguments become a request; needs no library
server    the protocol over HTTP; the only importer of mcp
"""
