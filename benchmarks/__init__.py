"""One command for each claim and picture of the README. Knows everything below; nothing knows it."""
