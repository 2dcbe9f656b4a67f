"""Images, points and transform files in and out. Functions here do input and output, and nothing else."""
