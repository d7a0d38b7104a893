"""A translation server: a page and a JSON API in the request forms of LibreTranslate."""
