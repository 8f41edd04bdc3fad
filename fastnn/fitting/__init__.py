"""A fit: what it was asked for, its steps and epochs, and what it carries from one to the next."""
