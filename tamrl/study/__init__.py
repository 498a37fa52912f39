"""The study behind the book, one module or folder a notebook; it may change with the book."""
