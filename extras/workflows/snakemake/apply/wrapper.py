"""Snakemake wrapper of ``register apply``."""

__author__ = "The register developers"
__license__ = "Apache-2.0"

from snakemake.shell import shell

snakemake = globals()["snakemake"]  # Snakemake provides it
extra = snakemake.params.get("extra", "")
log = snakemake.log_fmt_shell(stdout=True, stderr=True)
shell(
    "register apply {snakemake.input.transform:q} {snakemake.input.image:q} -o {snakemake.output[0]:q}"
    " --overwrite {extra} {log}"
)
