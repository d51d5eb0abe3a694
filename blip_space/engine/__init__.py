"""Requests become tokens and text."""
