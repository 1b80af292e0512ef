"""What the studies share: arguments and output, tables of the docs, the picture, files to read."""
