"""Questions about scenes, and their answers: `questions` and `dialogues` for languages with a grammar, `templates` for
all, `writers` as the interface of both, and `samples`, which makes prompts and labels."""
