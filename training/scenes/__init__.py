"""What there is to see: where it comes from (`sources`, `concepts`, `names`, `sprites`), flat shapes (`colours`,
`scenes`, `layouts`, `drawing`), everyday things (`everyday`, `pasting`), pictures of neither (`strangers`), and how
`world` mixes them."""
