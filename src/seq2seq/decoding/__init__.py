"""Text to text with a trained model: segmentation, search, scoring."""
