"""Questions about scenes with their answers: `questions` and `dialogues` with a grammar, `templates` without, `writers`
for either, and `samples`, which makes prompts and labels of them."""
