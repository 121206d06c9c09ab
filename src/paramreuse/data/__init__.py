"""Image sets: one reader per file, ``read_<name>(root, **options) -> ImageSet``."""
