"""What is asked of a scene and what is right: `questions` and `dialogues` with grammar, `plainly` without, `speech` for
either, and `lessons`, which makes prompts of them."""
