"""A plugin of napari: align layers, correct them by landmarks, move other layers through the transform."""
