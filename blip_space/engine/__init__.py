"""Requests become tokens: which sequences run, and which token each gets next. Must not import serving or apps."""
