"""A folder of pictures captioned to its end: what there is (`files`), what was done (`ledger`, of `record`s), what is
made of it for others (`export`), the pictures on their way (`reader`), and the work itself (`job`)."""
