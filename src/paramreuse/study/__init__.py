"""A whole study: its file, its store, its stages."""
