"""The method, one equation a file: tensors in, tensors out."""
