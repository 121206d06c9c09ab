"""Files of images and labels, one module per format.

In: paths.
Out: arrays with their spacing, or an error that names the file.
"""
