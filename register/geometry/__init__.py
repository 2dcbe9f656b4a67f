"""Algebra without pixels: affine maps, the patch grid, the Jacobian, B-splines, matched points."""
