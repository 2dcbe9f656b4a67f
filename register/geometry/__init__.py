"""Geometry of the plane: affine maps, the patch grid, Jacobians, B-splines and matched points."""
