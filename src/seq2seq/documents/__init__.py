"""Documents whose text is translated in place: web pages, XLIFF, subtitles, tables, and JSON lines."""
