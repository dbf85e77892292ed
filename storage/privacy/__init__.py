"""What is held on a person: found, shown, erased, kept no longer than it must be."""
