"""Movies and stacks: many frames of one size in one file or several."""
