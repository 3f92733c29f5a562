"""The rooms of the cabinet."""
