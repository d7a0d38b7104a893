"""Text around the search: lines to token ids, paragraphs, glossaries, unknown words."""
