"""Image sets: one reader per file, ``read_<name>(root, **options) -> ImageSet``.

In: folders of images and labels.
Out: slices by subject; batches of one size, prepared for training and scoring.
"""
