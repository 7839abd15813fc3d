"""Where texts and test sets come from: the folders of `--data`, the catalogue, downloads."""
