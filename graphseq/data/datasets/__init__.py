"""Named data sets: their files and their preparation."""
