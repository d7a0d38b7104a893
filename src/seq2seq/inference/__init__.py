"""Using a trained model: search, translation, scoring and attention pictures."""
