"""What is true of a customer at this instant: consents, contacts, and which decision ids are taken."""
