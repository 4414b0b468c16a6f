"""The command ``mixnn-labels``: which labels of a folder of images, or of a file of features, are wrong."""
