"""Other programs' transform formats."""
