"""What happens where nobody edits a document, and looks again at the objects that it concerns."""
