"""The study of the maximum length: ``experiments.studies.length_study`` by its short name."""

from experiments.studies.length_study import main

if __name__ == "__main__":
    main()
