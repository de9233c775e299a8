"""Models: augmented views, backbones, self-supervised training, embedding, health."""
