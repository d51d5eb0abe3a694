"""How it learns: `stages`, `batches`, `checkpoints`, `progress`; the classes `vision`, `sight`, `text` and
`joint`; and `school`, the order of them all."""
