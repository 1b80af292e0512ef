"""Session graphs: samples, PyG data, transforms and augmentation."""
