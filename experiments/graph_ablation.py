"""Whether the graph helps: ``experiments.studies.graph_ablation`` by its short name."""

from experiments.studies.graph_ablation import main

if __name__ == "__main__":
    main()
